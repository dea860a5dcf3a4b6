/* a reader of documents that does what its document says, and says how that ended: each line of the document is an
   attempt to get out of a sandbox and its argument. What it says is a line: the attempt, a colon, the outcome */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *outcome(long result)
{
    return result < 0 ? strerror(errno) : "done";
}

static const char *read_file(const char *path)
{
    static char text[4000];
    int fd = open(path, O_RDONLY);
    ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (size < 0)
        return outcome(-1);
    close(fd);
    text[size] = 0;
    for (char *c = text; *c; c++)
        if (*c == '\n')
            *c = '|';
    return text;
}

static const char *write_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT, 0666);
    return outcome(fd < 0 ? -1 : write(fd, "escaped", 7));
}

static const char *list(const char *path)
{
    static char names[4000];
    DIR *folder = opendir(path);
    struct dirent *entry;
    if (!folder)
        return outcome(-1);
    names[0] = 0;
    while ((entry = readdir(folder)))
        if (entry->d_name[0] != '.' && strlen(names) + strlen(entry->d_name) + 2 < sizeof names)
            strcat(strcat(names, entry->d_name), " ");
    closedir(folder);
    return names;
}

/* through a link of its own, in its own folder */
static const char *write_by_link(const char *path)
{
    unlink("link");
    if (symlink(path, "link") != 0)
        return outcome(-1);
    return write_file("link");
}

static const char *tcp(const char *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return outcome(connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&address, sizeof address));
}

static const char *local(const char *name, int type, int abstract, int *connection)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path + abstract, name, sizeof address.sun_path - 2);
    *connection = socket(AF_UNIX, type, 0);
    return outcome(connect(*connection, (void *)&address, sizeof address.sun_family + abstract + strlen(name)));
}

/* ask for a file of the recording as the recorder does, but without its key */
static const char *ask_keeper(const char *name)
{
    struct {
        char key[32];
        uint32_t what, unused;
        uint64_t size;
        char name[16];
    } request = {.what = 3};
    char answer[64];
    int connection;
    const char *said = local("/run/barnum/keeper", SOCK_SEQPACKET, 0, &connection);
    if (strcmp(said, "done") != 0)
        return said;
    strncpy(request.name, name, sizeof request.name - 1);
    send(connection, &request, sizeof request, MSG_NOSIGNAL);
    ssize_t size = recv(connection, answer, sizeof answer, 0);
    close(connection);
    return size > 0 ? "answered" : "refused";
}

/* write to all descriptors but those of a program's own output */
static const char *descriptors(void)
{
    static char found[200];
    int count = 0;
    for (int fd = 3; fd < 20000; fd++)
        if (fcntl(fd, F_GETFD) != -1) {
            count++;
            if (write(fd, "escaped", 7) < 0 && pwrite(fd, "escaped", 7, 0) < 0)
                continue;
        }
    sprintf(found, "%d open", count);
    return found;
}

/* all that any process seen here has open, by the links in /proc */
static const char *links(void)
{
    static char all[4000];
    char path[100], target[500];
    for (int pid = 1; pid < 20; pid++)
        for (int fd = 0; fd < 300; fd++) {
            snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
            ssize_t size = readlink(path, target, sizeof target - 1);
            if (size < 0 || strlen(all) + size + 2 > sizeof all)
                continue;
            target[size] = 0;
            strcat(strcat(all, target), " ");
            int again = open(path, O_WRONLY);
            if (again >= 0 && fd > 2)
                write(again, "escaped", 7);
            close(again);
        }
    return all;
}

static const char *inject(const char *path)
{
    int fd = path[0] == '/' ? open(path, O_RDWR) : atoi(path);
    return outcome(fd < 0 ? -1 : ioctl(fd, TIOCSTI, "x"));
}

static const char *many_processes(long wanted)
{
    static char text[100];
    long made = 0;
    while (made < wanted) {
        pid_t child = fork();
        if (child < 0)
            break;
        if (child == 0) {
            pause();
            _exit(0);
        }
        made++;
    }
    sprintf(text, "made %ld, then %s", made, strerror(errno));
    return text;
}

/* each child makes children */
static void bomb(void)
{
    signal(SIGCHLD, SIG_IGN);
    for (;;)
        if (fork() < 0)
            usleep(1000);
}

static const char *memory(long megabytes, int flags)
{
    static char text[100];
    long have = 0;
    for (; have < megabytes; have += 16) {
        char *piece = mmap(NULL, 16 << 20, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
        if (piece == MAP_FAILED)
            break;
        memset(piece, 1, 16 << 20);
    }
    sprintf(text, "%ld megabytes", have);
    return text;
}

static const char *disk(const char *path, long megabytes)
{
    static char text[100], block[1 << 20];
    int fd = open(path, O_WRONLY | O_CREAT, 0666);
    long have = 0;
    while (fd >= 0 && have < megabytes && write(fd, block, sizeof block) == (ssize_t)sizeof block)
        have++;
    sprintf(text, "%ld megabytes, then %s", have, have == megabytes ? "enough" : strerror(errno));
    return text;
}

/* a process that leaves its parent and its session, and goes on for ever */
static const char *leave_behind(void)
{
    if (fork() == 0) {
        setsid();
        if (fork() == 0)
            for (;;)
                sleep(1);
        _exit(0);
    }
    wait(NULL);
    return "done";
}

/* what only a program can do that knows the emulator: its memory, and so what it maps, lies beside the program's own */
static const char *overwrite(const char *name)
{
    static char line[5000];
    unsigned long from, to;
    /* under this name the emulator shows its own map, not the program's */
    FILE *maps = fopen("/proc/thread-self/maps", "r");
    const char *found = "not found";
    while (maps && fgets(line, sizeof line, maps))
        if (strstr(line, name) && sscanf(line, "%lx-%lx rw-s", &from, &to) == 2) {
            memset((void *)from, 0xff, 4096);
            found = "done";
        }
    return found;
}

static const char *start(char *program)
{
    static char text[100];
    int status;
    if (fork() == 0) {
        char *words[] = {program, NULL};
        execv(program, words);
        _exit(99);
    }
    wait(&status);
    sprintf(text, "status %d", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    return text;
}

static const char *attempt(const char *what, char *argument)
{
    int connection;
    if (!strcmp(what, "read"))
        return read_file(argument);
    if (!strcmp(what, "write"))
        return write_file(argument);
    if (!strcmp(what, "link"))
        return write_by_link(argument);
    if (!strcmp(what, "list"))
        return list(argument);
    if (!strcmp(what, "remove"))
        return outcome(unlink(argument));
    if (!strcmp(what, "rename"))
        return outcome(rename(argument, "/tmp/moved"));
    if (!strcmp(what, "tcp"))
        return tcp(argument);
    if (!strcmp(what, "abstract"))
        return local(argument, SOCK_STREAM, 1, &connection);
    if (!strcmp(what, "socket"))
        return local(argument, SOCK_STREAM, 0, &connection);
    if (!strcmp(what, "keeper"))
        return ask_keeper(argument);
    if (!strcmp(what, "descriptors"))
        return descriptors();
    if (!strcmp(what, "links"))
        return links();
    if (!strcmp(what, "kill"))
        return outcome(kill(atoi(argument), SIGKILL));
    if (!strcmp(what, "inject"))
        return inject(argument);
    if (!strcmp(what, "mount"))
        return outcome(mount("none", argument, "tmpfs", 0, NULL));
    if (!strcmp(what, "namespace"))
        return outcome(unshare(CLONE_NEWUSER));
    if (!strcmp(what, "trace"))
        return outcome(ptrace(PTRACE_ATTACH, atoi(argument), NULL, NULL));
    if (!strcmp(what, "device"))
        return outcome(mknod(argument, S_IFBLK | 0600, makedev(8, 0)));
    if (!strcmp(what, "shared"))
        return outcome(shmget(IPC_PRIVATE, 1 << 20, IPC_CREAT | 0600));
    if (!strcmp(what, "nameless"))
        return outcome(syscall(SYS_memfd_create, "x", 0));
    if (!strcmp(what, "variable"))
        return getenv(argument) ? getenv(argument) : "not set";
    if (!strcmp(what, "fork"))
        return many_processes(atol(argument));
    if (!strcmp(what, "memory"))
        return memory(atol(argument), MAP_PRIVATE);
    if (!strcmp(what, "anonymous"))
        return memory(atol(argument), MAP_SHARED);
    if (!strcmp(what, "disk"))
        return disk("filled", atol(argument));
    if (!strcmp(what, "disk-shm"))
        return disk("/dev/shm/filled", atol(argument));
    if (!strcmp(what, "daemon"))
        return leave_behind();
    if (!strcmp(what, "overwrite"))
        return overwrite(argument);
    if (!strcmp(what, "start"))
        return start(argument);
    if (!strcmp(what, "bomb"))
        bomb();
    if (!strcmp(what, "sleep"))
        sleep(atoi(argument));
    if (!strcmp(what, "die"))
        raise(atoi(argument));
    if (!strcmp(what, "end"))
        exit(atoi(argument));
    return "nothing";
}

int main(int count, char **words)
{
    char *line = NULL;
    size_t room = 0;
    FILE *document = fopen(words[count - 1], "r");
    if (!document)
        return 9;
    setvbuf(stderr, NULL, _IONBF, 0);
    while (getline(&line, &room, document) > 0) {
        line[strcspn(line, "\n")] = 0;
        char *argument = strchr(line, ' ');
        if (argument)
            *argument++ = 0;
        const char *said = attempt(line, argument ? argument : "");
        fprintf(stderr, "%s %s: %s\n", line, argument ? argument : "", said);
    }
    return 0;
}
