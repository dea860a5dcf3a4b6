/* what a program does that means no good to the one that watches it */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile int seen;

static void handler(int number)
{
    (void)number;
    seen++;
}

int main(void)
{
    /* pointers to nowhere, to the end of a page, to the top of the address space */
    char *edge = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(edge + 4096, 4096);
    memset(edge, 'a', 4096);
    long bad[] = {0, 1, 8, (long)(edge + 4096), (long)(edge + 4090), -1, -8, -4096, 1L << 46};
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
        for (unsigned j = 0; j < sizeof bad / sizeof *bad; j++) {
            syscall(SYS_rt_sigaction, SIGUSR1, bad[i], bad[j], 8);
            syscall(SYS_execve, bad[i], bad[j], bad[i]);
            syscall(SYS_open, bad[i], bad[j] & ~(long)O_CREAT, 0);
            if (bad[i] >= 0) /* the emulator does not survive the top of the address space */
                syscall(SYS_mprotect, bad[i], 4096, PROT_EXEC | PROT_READ);
        }
    syscall(SYS_rt_sigaction, 1000, edge, 0, 8);
    char *loop[] = {edge, NULL};
    syscall(SYS_execve, "/bin/true", bad + 5, loop);
    /* no descriptor is left open, no file may grow, none may be opened */
    for (int fd = 3; fd < 1024; fd++)
        close(fd);
    struct rlimit none = {0, RLIM_INFINITY}, few = {200, 200};
    setrlimit(RLIMIT_NOFILE, &few);
    setrlimit(RLIMIT_FSIZE, &none);
    int last = 0;
    for (int fd; (fd = dup(1)) >= 0;)
        last = fd;
    signal(SIGUSR1, handler);
    raise(SIGUSR1);
    unsigned sum = 0;
    for (unsigned i = 0; i < 100000; i++) {
        sum = sum * 1103515245 + 12345;
        if (sum & 0x10000)
            sum ^= i;
    }
    /* children that have no descriptors either */
    none.rlim_cur = RLIM_INFINITY;
    setrlimit(RLIMIT_FSIZE, &none);
    for (int i = 0; i < 6; i++)
        if (fork() == 0) {
            fork();
            _exit(0);
        }
    while (wait(NULL) > 0)
        ;
    for (int fd = 3; fd <= last; fd++)
        close(fd);
    printf("done %d %d\n", seen, sum != 1);
    return 0;
}
