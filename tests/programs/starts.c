/* the first other process that a program starts, in each way; argument 1 says how, 2 is a program */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* a fork whose system call has a name */
static __attribute__((noinline)) long fork_here(void)
{
    long result;
#ifdef __x86_64__
    __asm__ volatile(".globl here\nhere: syscall" : "=a"(result) : "a"(SYS_fork) : "rcx", "r11", "memory");
#else
    __asm__ volatile(".globl here\nhere: int $0x80" : "=a"(result) : "a"(SYS_fork) : "memory");
#endif
    return result;
}

static void end(long child)
{
    if (child == 0)
        _exit(0);
    waitpid((pid_t)child, NULL, 0);
}

static void *nothing(void *data)
{
    return data;
}

static void *forks(void *data)
{
    end(fork_here());
    return data;
}

static void in_thread(void *(*function)(void *))
{
    pthread_t thread;
    pthread_create(&thread, NULL, function, NULL);
    pthread_join(thread, NULL);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    char *words[] = {argc > 2 ? argv[2] : "/bin/true", NULL};
    pid_t child;
    getpid();
    if (!strcmp(what, "fork")) {
        end(fork());
        end(fork());
    } else if (!strcmp(what, "here")) {
        end(fork_here());
    } else if (!strcmp(what, "vfork")) {
        child = vfork();
        if (child == 0) {
            execve(words[0], words, environ);
            _exit(1);
        }
        end(child);
    } else if (!strcmp(what, "posix_spawn")) {
        if (posix_spawn(&child, words[0], NULL, NULL, words, environ) == 0)
            end(child);
    } else if (!strcmp(what, "popen")) {
        FILE *pipe = popen("exit 0", "r");
        while (pipe && fgetc(pipe) != EOF)
            ;
        pclose(pipe);
    } else if (!strcmp(what, "system")) {
        return system("exit 0");
    } else if (!strcmp(what, "clone3")) {
        struct {
            unsigned long long flags, pid, child, parent, signal, rest[6];
        } how = {.signal = SIGCHLD};
        long result = syscall(435, &how, sizeof how);
        end(result < 0 ? fork() : result);
    } else if (!strcmp(what, "bad-clone")) {
        /* namespaces shared and apart at once: no kernel does that */
        syscall(SYS_clone, CLONE_NEWNS | CLONE_FS | SIGCHLD, 0, 0, 0, 0);
        end(fork());
    } else if (!strcmp(what, "thread")) {
        in_thread(nothing);
        end(fork_here());
    } else if (!strcmp(what, "in-thread")) {
        in_thread(forks);
        end(fork());
    } else if (!strcmp(what, "child-first")) {
        /* the child starts one before its parent goes on */
        child = fork();
        if (child == 0)
            end(fork());
        end(child);
    } else if (!strcmp(what, "exec")) {
        execve(words[0], words, environ);
    } else if (!strcmp(what, "bad-exec")) {
        execve("/nonexistent/program", words, environ);
        execve(words[0], words, environ);
        getpid();
        end(fork());
    } else if (!strcmp(what, "only-bad-exec")) {
        execve("/nonexistent/program", words, environ);
        execve(words[0], words, environ);
    } else if (!strcmp(what, "only-thread")) {
        in_thread(nothing);
    } else if (!strcmp(what, "full")) {
        /* what fails to start is noted, until there is no room for more notes */
        for (int i = 0; i < 300; i++)
            execve(words[0], words, environ);
        end(fork());
    } else if (strcmp(what, "never") != 0) {
        return 2;
    }
    return 0;
}
