/* programs that start programs, with and without success */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static int wait_for(pid_t child)
{
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "spawn")) {
        char *words[] = {"/bin/echo", "spawned,", "a b", NULL};
        pid_t child;
        if (posix_spawn(&child, words[0], NULL, NULL, words, environ) != 0)
            return 1;
        printf("spawn %d\n", wait_for(child));
        fflush(stdout);
        child = vfork();
        if (child == 0) {
            execve("/bin/true", words, environ);
            _exit(99);
        }
        printf("vfork %d\n", wait_for(child));
        fflush(stdout);
        child = fork();
        if (child == 0) {
            execve("/nonexistent/program", words, environ);
            execve((char *)8, words, environ);
            execve("/bin/echo", (char **)8, environ);
            execve("/bin", words, environ);
            execve("/etc/passwd", words, environ);
            _exit(errno == EACCES ? 17 : 18);
        }
        printf("failed %d\n", wait_for(child));
    } else if (!strcmp(what, "script") && argc > 2) {
        setenv("BARNUM_WORD", "kept, whole", 1);
        setenv("LD_BARNUM", "seen", 1);
        char *words[] = {"name", "one", "two", NULL};
        execv(argv[2], words);
        return 3;
    } else if (!strcmp(what, "self")) {
        char *words[] = {"other name", "again", NULL};
        execv("/proc/self/exe", words);
        return 3;
    } else if (!strcmp(what, "again")) {
        printf("again as %s\n", argv[0]);
    } else if (!strcmp(what, "descriptor")) {
        int fd = open("/bin/echo", O_RDONLY | O_CLOEXEC);
        char *words[] = {"echo", "by descriptor", NULL};
        syscall(SYS_execveat, fd, "", words, environ, AT_EMPTY_PATH);
        return 3;
    } else if (!strcmp(what, "many")) {
        for (int i = 0; i < 8; i++)
            if (fork() == 0) {
                for (volatile int n = 0; n < 1000 * i; n++)
                    ;
                _exit(i);
            }
        int sum = 0, status;
        while (wait(&status) > 0)
            sum += WEXITSTATUS(status);
        printf("many %d\n", sum);
    } else {
        return 2;
    }
    return 0;
}
