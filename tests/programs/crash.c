/* ends that are not the program's own will; the argument chooses one */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static volatile int zero;

__attribute__((noinline)) static void smash(const char *text)
{
    char small[8];
    strcpy(small, text);
    printf("%s", small);
}

__attribute__((noinline)) static int endless(volatile int *n)
{
    volatile char room[4096];
    room[0] = (char)*n;
    /* calls alone would leave no packet that tells how many there were, on a processor no more than here */
    return room[0] > 100 ? 0 : endless(n) + room[0];
}

static void *spin(void *argument)
{
    volatile long *count = argument;
    for (;;)
        if (++*count % 3 == 0)
            *count += 2;
    return NULL;
}

static void give_up(int number)
{
    signal(number, SIG_DFL);
    raise(number);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    static volatile long count;
    for (volatile int i = 0; i < 50; i++)
        ;
    if (!strcmp(what, "null"))
        *(volatile int *)(long)zero = 1;
    else if (!strcmp(what, "jump"))
        ((void (*)(void))(0x1230000L + zero))();
    else if (!strcmp(what, "data"))
        ((void (*)(void))&count)();
    else if (!strcmp(what, "abort"))
        abort();
    else if (!strcmp(what, "smash"))
        smash("a text that is much too long for the room that it is given, and then some");
    else if (!strcmp(what, "kill"))
        kill(getpid(), SIGKILL);
    else if (!strcmp(what, "term"))
        kill(getpid(), SIGTERM);
    else if (!strcmp(what, "illegal"))
        __builtin_trap();
    else if (!strcmp(what, "break"))
        __asm__ volatile("int3");
    else if (!strcmp(what, "divide"))
        return 1000 / zero;
    else if (!strcmp(what, "spin"))
        spin((void *)&count);
    else if (!strcmp(what, "overflow"))
        return endless(&zero);
    else if (!strcmp(what, "ret"))
        __asm__ volatile("mov $8, %esp\n ret");
    else if (!strcmp(what, "handler")) {
        signal(SIGSEGV, give_up);
        *(volatile int *)(long)zero = 1;
    } else if (!strcmp(what, "alarm")) {
        alarm(1);
        spin((void *)&count);
    } else if (!strcmp(what, "thread")) {
        pthread_t other;
        pthread_create(&other, NULL, spin, (void *)&count);
        while (count < 1000)
            ;
        *(volatile int *)(long)zero = 1;
    }
    return 0;
}
