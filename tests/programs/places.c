/* effects at known instructions: SITE makes a folder whose name is that of a label behind its own system call, and how
   often that was reached before. Ways into the kernel that are none of these stand between them */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#define STRING(x) STRING_2(x)
#define STRING_2(x) #x
#ifdef __x86_64__
#define ENTER "syscall"
#define FIRST "D"
#define SECOND "S"
#define THRASHED "rcx", "r11", "memory"
#define FAR_RETURN "movl %%cs, %%eax\npushq %%rax\nleaq 1f(%%rip), %%rax\npushq %%rax\nlretq\n1:"
#else
#define ENTER "int $0x80"
#define FIRST "b"
#define SECOND "c"
#define THRASHED "memory"
#define FAR_RETURN "pushl %%cs\npushl $1f\nlret\n1:"
#endif

#define SITE(label, count)                                                                                             \
    do {                                                                                                               \
        char name[64];                                                                                                 \
        long result;                                                                                                   \
        snprintf(name, sizeof name, "%s-%d", STRING(label), count);                                                    \
        __asm__ volatile(ENTER "\n.globl " STRING(label) "\n" STRING(label) ":"                                        \
                         : "=a"(result)                                                                                \
                         : "0"(SYS_mkdir), FIRST(name), SECOND(0700)                                                   \
                         : THRASHED);                                                                                  \
        (void)result;                                                                                                  \
    } while (0)

static volatile int alarms, traps;

/* some emulators enter handlers of 64-bit programs with a stack that is not aligned as the library expects */
#define HANDLER __attribute__((force_align_arg_pointer))

HANDLER static void on_alarm(int number)
{
    (void)number;
    SITE(site_alarm, alarms);
    alarms++;
}

HANDLER static void on_trap(int number)
{
    (void)number;
    SITE(site_trap, traps);
    traps++;
}

static void *thread(void *data)
{
    for (int i = 0; i < 20; i++) {
        getppid();
        SITE(site_thread, i);
    }
    return data;
}

int main(int count, char **words)
{
    char byte;
    int ends[2];
    signal(SIGALRM, on_alarm); /* with SA_RESTART: the call that it interrupts is made again */
    signal(SIGTRAP, on_trap);
    SITE(site_first, 0);
    if (count > 1)
        close(open(words[1], O_RDONLY));
    for (int i = 0; i < 50; i++)
        SITE(site_loop, i);
    __asm__ volatile("int3");
    SITE(site_after_trap, 0);
    /* one after the other, without a branch between them */
    __asm__ volatile(ENTER "\n" ENTER : : "a"(-1) : THRASHED);
    SITE(site_after_two, 0);
    /* ends far, and stays in the program */
    __asm__ volatile(FAR_RETURN : : : "eax", "memory");
    SITE(site_after_return, 0);
    if (pipe(ends) != 0)
        return 1;
    for (int i = 0; i < 3; i++) {
        struct itimerval soon = {{0, 0}, {0, 20000}};
        setitimer(ITIMER_REAL, &soon, NULL);
        if (fork() == 0) {
            usleep(60000);
            SITE(site_child, 0);
            _exit(write(ends[1], "x", 1) != 1);
        }
        if (read(ends[0], &byte, 1) != 1) /* interrupted, and made again */
            return 1;
        SITE(site_after_alarm, i);
    }
    /* signals that come anywhere */
    struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &often, NULL);
    for (int i = 0; i < 200; i++)
        SITE(site_among_alarms, i);
    setitimer(ITIMER_REAL, &never, NULL);
    pthread_t other;
    pthread_create(&other, NULL, thread, NULL);
    for (int i = 0; i < 20; i++)
        SITE(site_beside_thread, i);
    pthread_join(other, NULL);
    SITE(site_last, 0);
    return 0;
}
