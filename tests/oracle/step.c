/* the truth about a run: every instruction that a program executes, by single steps of ptrace
   usage: step OUTPUT INPUT|- PROGRAM ARGUMENT...
   writes one address of 16 hex digits a line; with an INPUT, from its opening on. A repeated string
   instruction counts once, however many iterations it makes. */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

/* is the instruction a string instruction with a repeat prefix? */
static int repeats(pid_t pid, uint64_t address)
{
    uint8_t bytes[16];
    for (int i = 0; i < 2; i++) {
        errno = 0;
        long word = ptrace(PTRACE_PEEKTEXT, pid, address + 8 * i, 0);
        if (errno)
            return 0;
        memcpy(bytes + 8 * i, &word, 8);
    }
    int repeat = 0;
    for (int i = 0; i < 14; i++) {
        uint8_t b = bytes[i];
        if (b == 0xf2 || b == 0xf3)
            repeat = 1;
        else if (b >= 0xa4 && b <= 0xaf && b != 0xa8 && b != 0xa9)
            return repeat;
        else if (b != 0x66 && b != 0x67 && (b & 0xf0) != 0x40)
            return 0;
    }
    return 0;
}

static int opened(pid_t pid, uint64_t fd, const struct stat *wanted)
{
    char path[64];
    struct stat status;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, (int)fd);
    return stat(path, &status) == 0 && status.st_dev == wanted->st_dev && status.st_ino == wanted->st_ino;
}

int main(int argc, char **argv)
{
    struct stat wanted;
    if (argc < 4)
        return 2;
    FILE *out = fopen(argv[1], "w");
    int on = !strcmp(argv[2], "-");
    if (!out || (!on && stat(argv[2], &wanted) != 0))
        return 2;
    pid_t pid = fork();
    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        execv(argv[3], argv + 3);
        _exit(127);
    }
    int status;
    uint64_t before = 0;
    int repeating = 0;
    if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
        return 3;
    for (;;) {
        struct user_regs_struct r;
        if (ptrace(PTRACE_GETREGS, pid, 0, &r) != 0)
            return 3;
        if (!on && (int64_t)r.rax >= 0 && (int64_t)r.rax < 1024 && opened(pid, r.rax, &wanted))
            on = 1;
        if (on && !(repeating && r.rip == before))
            fprintf(out, "%016llx\n", r.rip);
        before = r.rip;
        repeating = repeats(pid, r.rip);
        if (ptrace(PTRACE_SINGLESTEP, pid, 0, 0) != 0 || waitpid(pid, &status, 0) != pid)
            return 3;
        if (!WIFSTOPPED(status))
            break;
        if (WSTOPSIG(status) != SIGTRAP)
            return 4;
    }
    return fclose(out) != 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}
