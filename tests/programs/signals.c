/* signals in all the ways that break the straight course of a program; the argument chooses one */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static sigjmp_buf point;
static volatile sig_atomic_t seen;
static volatile char *page;

static void handle(int number, void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    sigaction(number, &action, NULL);
}

static void count(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info, (void)context;
    seen++;
}

static void plain_count(int number)
{
    (void)number;
    seen++;
}

static void leap(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info, (void)context;
    seen++;
    siglongjmp(point, 1);
}

static void repair(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info, (void)context;
    seen++;
    mprotect((void *)page, 4096, PROT_READ | PROT_WRITE);
}

static void skip(int number, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    (void)number, (void)info;
    seen++;
#ifdef __x86_64__
    uc->uc_mcontext.gregs[REG_RIP] += 2;
#else
    uc->uc_mcontext.gregs[REG_EIP] += 2;
#endif
}

static void come_back(int number, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    (void)number, (void)info;
    seen++;
#ifdef __x86_64__
    uc->uc_mcontext.gregs[REG_RIP] = *(long *)uc->uc_mcontext.gregs[REG_RSP];
    uc->uc_mcontext.gregs[REG_RSP] += 8;
#else
    uc->uc_mcontext.gregs[REG_EIP] = *(long *)uc->uc_mcontext.gregs[REG_ESP];
    uc->uc_mcontext.gregs[REG_ESP] += 4;
#endif
}

static void nested(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info, (void)context;
    seen++;
    if (seen < 4)
        raise(SIGUSR2);
}

static void timer(long microseconds)
{
    struct itimerval value = {{0, microseconds}, {0, microseconds}};
    setitimer(ITIMER_REAL, &value, NULL);
}

static unsigned work(unsigned n)
{
    unsigned x = n;
    for (unsigned i = 0; i < 2000; i++) {
        x = x * 1103515245 + 12345;
        if (x & 0x10000)
            x ^= i;
        if ((x >> 20) % 3 == 0)
            x += (unsigned)strlen("some text");
    }
    return x;
}

static int by_number(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    page = mmap(NULL, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!strcmp(what, "longjmp")) {
        handle(SIGSEGV, leap, SA_SIGINFO);
        for (volatile int i = 0; i < 20; i++)
            if (sigsetjmp(point, 1) == 0)
                page[i] = 1;
    } else if (!strcmp(what, "repair")) {
        handle(SIGSEGV, repair, SA_SIGINFO);
        for (int i = 0; i < 20; i++) {
            page[i] = 1;
            mprotect((void *)page, 4096, PROT_NONE);
        }
        for (volatile int i = 0; i < 5; i++) {
            /* a string instruction that faults in the middle */
            void *to = (void *)(page - 0), *from = (void *)argv[0];
            size_t n = 4;
            __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
            mprotect((void *)page, 4096, PROT_NONE);
        }
    } else if (!strcmp(what, "plain")) {
        signal(SIGUSR1, plain_count);
        for (int i = 0; i < 20; i++)
            raise(SIGUSR1);
    } else if (!strcmp(what, "skip")) {
        handle(SIGILL, skip, SA_SIGINFO);
        handle(SIGTRAP, count, SA_SIGINFO);
        for (int i = 0; i < 10; i++) {
            __asm__ volatile("ud2");
            __asm__ volatile("int3");
        }
    } else if (!strcmp(what, "wild")) {
        handle(SIGSEGV, come_back, SA_SIGINFO | SA_NODEFER);
        void (*volatile nowhere)(void) = (void (*)(void))page;
        for (int i = 0; i < 5; i++)
            nowhere();
    } else if (!strcmp(what, "nested")) {
        handle(SIGUSR1, nested, SA_SIGINFO | SA_NODEFER);
        handle(SIGUSR2, nested, SA_SIGINFO | SA_NODEFER);
        raise(SIGUSR1);
        /* several at once: their frames are made one upon the other before the first handler begins */
        sigset_t both, old;
        sigemptyset(&both);
        sigaddset(&both, SIGUSR1);
        sigaddset(&both, SIGUSR2);
        sigaddset(&both, SIGTERM);
        handle(SIGUSR1, count, SA_SIGINFO);
        handle(SIGUSR2, leap, SA_SIGINFO);
        handle(SIGTERM, count, SA_SIGINFO);
        for (volatile int i = 0; i < 5; i++) {
            sigprocmask(SIG_BLOCK, &both, &old);
            kill(getpid(), SIGUSR1);
            kill(getpid(), SIGTERM);
            kill(getpid(), SIGUSR2);
            if (sigsetjmp(point, 1) == 0)
                sigprocmask(SIG_SETMASK, &old, NULL);
            sigprocmask(SIG_SETMASK, &old, NULL);
        }
    } else if (!strcmp(what, "storm")) {
        static char stack[1 << 16];
        stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
        sigaltstack(&alternate, NULL);
        handle(SIGALRM, count, SA_SIGINFO | SA_ONSTACK | SA_RESTART);
        timer(300);
        unsigned sum = 0;
        int numbers[512];
        for (unsigned i = 0; seen < 150 && i < 20000; i++) {
            sum += work(i);
            for (int n = 0; n < 512; n++)
                numbers[n] = (n * 7919 + (int)i) % 1009;
            qsort(numbers, 512, sizeof *numbers, by_number);
            sum += (unsigned)numbers[3];
        }
        timer(0);
        printf("%d\n", seen > 0 && sum != 1);
    } else if (!strcmp(what, "both")) {
        /* two timers, whose signals come together at times */
        handle(SIGALRM, count, SA_SIGINFO);
        handle(SIGVTALRM, count, SA_SIGINFO);
        struct itimerval value = {{0, 300}, {0, 300}};
        timer(300);
        setitimer(ITIMER_VIRTUAL, &value, NULL);
        for (unsigned i = 0; seen < 100 && i < 20000; i++)
            work(i);
    } else if (!strcmp(what, "calls")) {
        /* system calls that are interrupted, and begun again or not */
        int ends[2];
        char byte;
        if (pipe(ends) != 0)
            return 1;
        for (int restart = 0; restart < 2; restart++) {
            handle(SIGALRM, count, SA_SIGINFO | (restart ? SA_RESTART : 0));
            pid_t child = fork();
            if (child == 0) {
                usleep(60000);
                _exit(write(ends[1], "x", 1) != 1);
            }
            timer(7000);
            while (read(ends[0], &byte, 1) < 0 && errno == EINTR)
                seen++;
            timer(0);
            waitpid(child, NULL, 0);
        }
    } else {
        return 2;
    }
    printf("%s %d\n", what, seen > 0);
    return 0;
}
