/* files in the work folder; none stays open, because the program may close descriptors it never opened */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "recorder.h"

enum { WINDOW = 64 << 20, FIRST_STEP = 64 << 10, LARGEST_STEP = 8 << 20 };

/* open with close-on-exec; when the program has used up its descriptors, borrow one above its soft limit */
int open_own(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd >= 0 || errno != EMFILE)
        return fd;
    struct rlimit old;
    if (getrlimit(RLIMIT_NOFILE, &old) != 0)
        return -1;
    struct rlimit wide = {old.rlim_max, old.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &wide) != 0)
        return -1;
    fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    int error = errno;
    setrlimit(RLIMIT_NOFILE, &old);
    errno = error;
    return fd;
}

/* DIR/PREFIX_NUMBER, in OWN_ROOM bytes */
void own_path(char *to, const char *prefix, int number)
{
    snprintf(to, OWN_ROOM, "%s/%.8s_%d", options.dir, prefix, number);
}

/* make PREFIX_<lowest free number> and leave its path; returns the number, -1 when that fails */
int create_numbered(const char *prefix, char *path)
{
    /* numbers are given in order of creation over all processes, so a search from the last one known is enough */
    static _Atomic int hint[2];
    _Atomic int *from = &hint[prefix[0] == 's'];
    for (int number = *from; number < 1000000; number++) {
        own_path(path, prefix, number);
        int fd = open_own(path, O_CREAT | O_EXCL | O_RDWR);
        if (fd >= 0) {
            close(fd);
            *from = number + 1;
            return number;
        }
        if (errno != EEXIST)
            return -1;
    }
    return -1;
}

/* append a line `key value` to the file of this process */
void note(const char *key, const char *format, ...)
{
    char path[OWN_ROOM], line[PATH_ROOM + TEXT_ROOM];
    if (process < 0)
        return;
    int head = snprintf(line, sizeof line, "%s ", key);
    va_list arguments;
    va_start(arguments, format);
    int body = vsnprintf(line + head, sizeof line - head - 1, format, arguments);
    va_end(arguments);
    if (body < 0)
        return;
    size_t size = head + (size_t)body;
    if (size > sizeof line - 2)
        size = sizeof line - 2;
    for (size_t i = 0; i < size; i++)
        if (line[i] == '\n')
            line[i] = '?';
    line[size++] = '\n';
    own_path(path, "process", process);
    int fd = open_own(path, O_WRONLY | O_APPEND);
    if (fd < 0)
        return;
    ssize_t written = write(fd, line, size);
    (void)written;
    close(fd);
}

/* do something that a file size limit of the program may forbid, without the signal that comes of it */
static int unsignalled(int (*action)(int fd, off_t from, off_t size), int fd, uint64_t from, uint64_t size)
{
    sigset_t limit, old;
    sigemptyset(&limit);
    sigaddset(&limit, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &limit, &old);
    int error = action(fd, (off_t)from, (off_t)size);
    if (error == EFBIG) {
        struct timespec now = {0, 0};
        sigtimedwait(&limit, NULL, &now);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return error;
}

static int lengthen(int fd, off_t from, off_t size)
{
    (void)from;
    return ftruncate(fd, size) == 0 ? 0 : errno;
}

/* the file is made long at once, though empty: within its length no limit that the program sets later counts */
bool grow_create(struct grow *grow, const char *path)
{
    memset(grow, 0, sizeof *grow);
    if ((size_t)snprintf(grow->path, sizeof grow->path, "%s", path) >= sizeof grow->path)
        return false;
    int fd = open_own(path, O_RDWR);
    if (fd < 0)
        return false;
    for (int bits = 36; bits >= 28 && unsignalled(lengthen, fd, 0, UINT64_C(1) << bits); bits -= 4)
        ;
    close(fd);
    return true;
}

static bool allocate(struct grow *grow, int fd, uint64_t size)
{
    if (unsignalled(posix_fallocate, fd, grow->allocated, size - grow->allocated))
        return false;
    grow->allocated = size;
    return true;
}

/* pointer to the byte at `offset`, with at least `want` bytes of file behind it (*room of them); NULL: disk full */
uint8_t *grow_at(struct grow *grow, uint64_t offset, uint64_t want, uint64_t *room)
{
    bool inside = grow->window && offset + want <= grow->window_at + grow->window_size;
    if (!inside || offset + want > grow->allocated) {
        int fd = open_own(grow->path, O_RDWR);
        if (fd < 0)
            return NULL;
        if (offset + want > grow->allocated) {
            uint64_t step = grow->allocated < FIRST_STEP ? FIRST_STEP : grow->allocated;
            if (step > LARGEST_STEP)
                step = LARGEST_STEP;
            uint64_t least = (offset + want + PAGE - 1) & ~(uint64_t)(PAGE - 1);
            uint64_t size = grow->allocated + step < least ? least : grow->allocated + step;
            if (!allocate(grow, fd, size) && (size == least || !allocate(grow, fd, least))) {
                close(fd);
                return NULL;
            }
        }
        if (!inside) {
            grow_forget(grow);
            uint64_t from = offset & ~(uint64_t)(PAGE - 1);
            void *window = mmap(NULL, WINDOW, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)from);
            if (window == MAP_FAILED) {
                close(fd);
                return NULL;
            }
            grow->window = window;
            grow->window_at = from;
            grow->window_size = WINDOW;
        }
        close(fd);
    }
    uint64_t end = grow->window_at + grow->window_size;
    if (end > grow->allocated)
        end = grow->allocated;
    *room = end - offset;
    return grow->window + (offset - grow->window_at);
}

/* unmap without touching the file: a forked child must leave its parent's alone */
void grow_forget(struct grow *grow)
{
    if (grow->window)
        munmap(grow->window, grow->window_size);
    grow->window = NULL;
}

/* cut the file to the bytes in use */
void grow_close(struct grow *grow, uint64_t size)
{
    if (!grow->path[0])
        return;
    grow_forget(grow);
    int fd = open_own(grow->path, O_RDWR);
    if (fd >= 0) {
        int failed = ftruncate(fd, (off_t)size);
        (void)failed;
        close(fd);
    }
    grow->path[0] = 0;
}
