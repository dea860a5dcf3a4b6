/* does a little of everything that is an effect, in the current folder, and checks nothing: strace says what it did */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static void files(void)
{
    int fd = open("one", O_RDWR | O_CREAT | O_EXCL, 0640);
    if (write(fd, "one\n", 4) != 4)
        return;
    fchmod(fd, 0600);
    if (ftruncate(fd, 2) != 0 || fchown(fd, getuid(), getgid()) != 0)
        return;
    fsetxattr(fd, "user.barnum", "x", 1, 0);
    close(fd);
    close(open("one", O_RDONLY));
    close(open("absent/one", O_WRONLY | O_CREAT, 0600));
    mkdir("folder", 0700);
    int folder = open("folder", O_RDONLY | O_DIRECTORY);
    renameat(AT_FDCWD, "one", folder, "two");
    linkat(folder, "two", AT_FDCWD, "three", 0);
    symlinkat("three", folder, "four");
    mkfifoat(folder, "five", 0600);
    unlinkat(folder, "five", 0);
    rename("three", "new\nline \\ \x1b[31m \xff\xe4");
    unlink("new\nline \\ \x1b[31m \xff\xe4");
    unlink("");
    unlink((const char *)16);
    rmdir("folder");
    close(folder);
}

static void network(void)
{
    struct sockaddr_in there = {AF_INET, htons(9), {htonl(INADDR_LOOPBACK)}, {0}};
    struct sockaddr_in6 there6 = {.sin6_family = AF_INET6, .sin6_port = htons(9), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    sendto(fd, "x", 1, 0, (struct sockaddr *)&there, sizeof there);
    connect(fd, (struct sockaddr *)&there, sizeof there);
    send(fd, "x", 1, 0);
    close(fd);
    fd = socket(AF_INET6, SOCK_DGRAM, 0);
    connect(fd, (struct sockaddr *)&there6, sizeof there6);
    close(fd);
    struct sockaddr_un name = {AF_UNIX, "socket"}, hidden = {AF_UNIX, "\0barnum"}, own = {AF_UNIX, "@own"}, peer;
    socklen_t size = sizeof peer;
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    bind(fd, (struct sockaddr *)&name, sizeof name);
    listen(fd, 3);
    int other = socket(AF_UNIX, SOCK_STREAM, 0);
    connect(other, (struct sockaddr *)&hidden, offsetof(struct sockaddr_un, sun_path) + 7);
    bind(other, (struct sockaddr *)&own, sizeof own);
    connect(other, (struct sockaddr *)&name, sizeof name);
    close(accept(fd, (struct sockaddr *)&peer, &size));
    close(other);
    close(fd);
}

static void memory(void)
{
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(page, 4096, PROT_READ | PROT_EXEC);
    mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = memfd_create("hidden", 0);
    if (ftruncate(fd, 4096) == 0)
        mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    close(fd);
}

static void nothing(int number)
{
    (void)number;
}

/* a call that a signal interrupts, and that is made again */
static void again(void)
{
    mkfifo("pipe", 0600);
    pid_t child = fork();
    if (!child) {
        usleep(300000);
        close(open("pipe", O_RDONLY));
        _exit(0);
    }
    signal(SIGALRM, nothing);
    ualarm(100000, 0);
    close(open("pipe", O_WRONLY));
    waitpid(child, NULL, 0);
    unlink("pipe");
}

int main(int count, char **words)
{
    files();
    network();
    memory();
    again();
    int ends[2], status;
    char byte;
    if (pipe(ends) != 0)
        return 1;
    pid_t child = fork();
    if (!child) {
        mkdir("of the child", 0700);
        rmdir("of the child");
        execl("/nowhere/at all", "all", NULL);
        if (write(ends[1], "x", 1) == 1)
            pause();
    }
    if (read(ends[0], &byte, 1) != 1)
        return 1;
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    kill(getpid(), 0);
    if (count > 1 && !strcmp(words[1], "rights")) {
        if (setgroups(0, NULL) != 0 || setgid(65534) != 0 || setuid(65534) != 0)
            return 1;
        for (int i = 0; i < 1000; i++)
            mkdir("of nobody", 0700);
    }
    return 0;
}
