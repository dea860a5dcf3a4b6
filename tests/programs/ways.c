/* unusual but harmless ways of control: ways WAY DOCUMENT. The bytes of the document say what is done */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#define APART __attribute__((noinline))

static volatile unsigned sum;

/* -- longjmp out of some depth, to an inner or an outer place */
static jmp_buf inner, outer;

APART static void dive(int depth, int how)
{
    if (depth > 0) {
        dive(depth - 1, how);
        sum += depth;
        return;
    }
    if (how & 1)
        longjmp(inner, 1);
    if (how & 2)
        longjmp(outer, 2);
}

APART static void middle(unsigned char byte)
{
    if (setjmp(inner) == 0)
        dive(byte % 23, byte >> 5);
    sum += byte;
}

static void long_jumps(unsigned char byte)
{
    if (setjmp(outer) == 0)
        middle(byte);
    dive(byte % 5, 0);
}

/* -- exceptions.cpp, where it is linked */
unsigned exceptions(unsigned char byte) __attribute__((weak));

static void throwing(unsigned char byte)
{
    sum += exceptions ? exceptions(byte) : byte;
}

/* -- handlers that return, that jump out, that are interrupted themselves */
static sigjmp_buf out;

static void on_signal(int number)
{
    sum += number;
    if (number == SIGUSR1)
        raise(SIGUSR2);
}

static void on_jump(int number, siginfo_t *information, void *context)
{
    (void)number, (void)information, (void)context;
    siglongjmp(out, 1);
}

static void set_handlers(void)
{
    struct sigaction action;
    struct itimerval timer = {{0, 1000}, {0, 1000}};
    signal(SIGUSR1, on_signal);
    signal(SIGUSR2, on_signal);
    signal(SIGALRM, on_signal);
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_jump;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGQUIT, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
    setitimer(ITIMER_REAL, &timer, NULL);
}

static void signals(unsigned char byte)
{
    switch (byte & 3) {
    case 0:
        raise(SIGUSR1);
        break;
    case 1:
        if (sigsetjmp(out, 1) == 0)
            raise(SIGQUIT);
        break;
    case 2:
        if (sigsetjmp(out, 1) == 0)
            *(volatile int *)(uintptr_t)byte = 1;
        break;
    default:
        for (int i = 0; i < 200 * byte; ++i)
            sum += i;
    }
}

/* -- coroutines that are left and gone on with at any depth */
enum { COROUTINES = 5, ROOM = 64 << 10 };
static ucontext_t home, coroutine[COROUTINES];
static char *room[COROUTINES];
static int alive[COROUTINES];
static int current;

APART static void pause_deep(int depth)
{
    if (depth > 0) {
        pause_deep(depth - 1);
        sum += depth;
        return;
    }
    swapcontext(&coroutine[current], &home);
}

static void body(void)
{
    for (int i = 0; i < 6; ++i)
        pause_deep((current * 3 + i) % 7);
    alive[current] = 0;
}

static void coroutines(unsigned char byte)
{
    current = byte % COROUTINES;
    if (!alive[current]) {
        if (!room[current])
            room[current] = (char *)malloc(ROOM);
        getcontext(&coroutine[current]);
        coroutine[current].uc_stack.ss_sp = room[current];
        coroutine[current].uc_stack.ss_size = ROOM;
        coroutine[current].uc_link = &home;
        makecontext(&coroutine[current], body, 0);
        alive[current] = 1;
    }
    swapcontext(&home, &coroutine[current]);
}

/* -- code that is written, run, and written anew; it calls back */
static long called_back(long n)
{
    sum += n;
    return n + 1;
}

static void jit(unsigned char byte)
{
    static unsigned char *page;
    /* sub rsp, 8; mov rax, called_back; call rax; add rsp, 8; ret */
    static const unsigned char head64[] = {0x48, 0x83, 0xec, 0x08, 0x48, 0xb8};
    static const unsigned char tail64[] = {0xff, 0xd0, 0x48, 0x83, 0xc4, 0x08, 0xc3};
    /* push [esp + 4]; mov eax, called_back; call eax; add esp, 4; ret */
    static const unsigned char head32[] = {0xff, 0x74, 0x24, 0x04, 0xb8};
    static const unsigned char tail32[] = {0xff, 0xd0, 0x83, 0xc4, 0x04, 0xc3};
    int wide = sizeof(long) == 8;
    size_t head = wide ? sizeof head64 : sizeof head32, tail = wide ? sizeof tail64 : sizeof tail32;
    uintptr_t address = (uintptr_t)&called_back;
    if (!page)
        page = (unsigned char *)mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                                     0);
    unsigned char *at = page + byte % 64 * 512, *begin = at;
    memset(at, 0x90, byte % 7);
    at += byte % 7;
    memcpy(at, wide ? head64 : head32, head);
    memcpy(at + head, &address, sizeof address);
    memcpy(at + head + sizeof address, wide ? tail64 : tail32, tail);
    sum += ((long (*)(long))begin)(byte);
}

/* -- threads that end in several ways */
static void *work(void *argument)
{
    unsigned char byte = (unsigned char)(uintptr_t)argument;
    throwing(byte);
    if (byte & 1)
        pthread_exit(NULL);
    return argument;
}

static void threads(unsigned char byte)
{
    pthread_t thread[3];
    int count = 1 + byte % 3;
    for (int i = 0; i < count; ++i)
        pthread_create(&thread[i], NULL, work, (void *)(uintptr_t)(byte + i));
    for (int i = 0; i < count; ++i)
        pthread_join(thread[i], NULL);
}

/* -- functions that are bound when they are first called, and libraries that come and go */
static int compare(const void *a, const void *b)
{
    return *(const unsigned char *)a - *(const unsigned char *)b;
}

static void library(unsigned char byte)
{
    void *handle = dlopen("libm.so.6", RTLD_LAZY);
    double (*function)(double);
    *(void **)&function = dlsym(handle, byte & 8 ? "cos" : "exp");
    sum += (unsigned)(function(byte % 8) + 2);
    dlclose(handle);
}

static void binding(unsigned char byte)
{
    static char text[64];
    switch (byte % 6) {
    case 0:
        snprintf(text, sizeof text, "%d %f", byte, byte / 3.0);
        break;
    case 1:
        sum += (unsigned)(strtod("3.25", NULL) * byte);
        break;
    case 2:
        memset(text, byte, sizeof text - 1);
        qsort(text, sizeof text, 1, compare);
        break;
    case 3:
        setenv("BYTE", "text", 1);
        break;
    case 4:
        library(byte);
        break;
    default:
        usleep(1);
    }
}

static const struct {
    const char *name;
    void (*go)(unsigned char);
} ways[] = {
    {"longjmp", long_jumps}, {"exceptions", throwing}, {"signals", signals}, {"coroutines", coroutines}, {"jit", jit},
    {"threads", threads},    {"binding", binding}};

int main(int count, char **words)
{
    void (*go)(unsigned char) = NULL;
    FILE *document = count == 3 ? fopen(words[2], "r") : NULL;
    if (!document)
        return 2;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; ++i) {
        if (!strcmp(ways[i].name, words[1]))
            go = ways[i].go;
    }
    if (!go)
        return 3;
    if (go == signals)
        set_handlers();
    for (int byte; (byte = fgetc(document)) != EOF;)
        go((unsigned char)byte);
    printf("%u\n", sum);
    return 0;
}
