/* files of the work folder and of /proc; none stays open, because the program may close descriptors it never opened.
   In a sandbox those of the work folder are never in the program's table of descriptors, as it might use them */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "recorder.h"

enum { FEW_DESCRIPTORS = 16 };

/* what is to be done with a file while it is open */
struct job {
    const char *path;
    int flags;
    int (*act)(struct job *job, int fd); /* 0 or an error number */
    const void *data;
    uint64_t from, size;
    void *result;
    int error;
    int number; /* of a file that a keeper made */
};

static int act_truncate(struct job *job, int fd);

/* whether the file is in a work folder out of reach */
static bool is_kept(const struct job *job)
{
    return options.keeper[0] && job->path[0] != '/';
}

static int open_kept(struct job *job)
{
    const char *name = strrchr(job->path, '/') + 1;
    uint32_t what = job->act == act_truncate               ? KEEPER_RESIZE
                    : job->flags & O_EXCL                  ? KEEPER_CREATE
                    : job->flags & O_APPEND                ? KEEPER_APPEND
                    : (job->flags & O_ACCMODE) == O_RDONLY ? KEEPER_READ
                                                           : KEEPER_WRITE;
    return keeper_ask(what, name, job->size, &job->number);
}

static void perform(struct job *job)
{
    int fd = is_kept(job) ? open_kept(job) : open(job->path, job->flags | O_CLOEXEC, 0600);
    if (fd < 0) {
        job->error = fd == KEEPER_DONE ? 0 : errno;
        return;
    }
    job->error = job->act ? job->act(job, fd) : 0;
    close(fd);
}

/* in a thread with a table of descriptors of its own, which is empty */
static void *perform_apart(void *data)
{
    if (unshare(CLONE_FILES) != 0) {
        ((struct job *)data)->error = errno;
        return NULL;
    }
    if (syscall(SYS_close_range, 0, ~0U, 0) != 0)
        for (int fd = 0; fd < 4096; fd++)
            close(fd);
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < FEW_DESCRIPTORS) {
        struct rlimit wide = {FEW_DESCRIPTORS < limit.rlim_max ? FEW_DESCRIPTORS : limit.rlim_max, limit.rlim_max};
        setrlimit(RLIMIT_NOFILE, &wide);
        perform(data);
        setrlimit(RLIMIT_NOFILE, &limit);
    } else {
        perform(data);
    }
    return NULL;
}

/* neither a program that has used up its descriptors nor one that limits the size of its files stops the recorder */
static bool run(struct job *job)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pthread_t helper;
    bool apart = is_kept(job) && pthread_create(&helper, NULL, perform_apart, job) == 0;
    if (!apart) {
        perform(job);
        apart =
            (job->error == EMFILE || job->error == ENFILE) && pthread_create(&helper, NULL, perform_apart, job) == 0;
    }
    if (apart)
        pthread_join(helper, NULL);
    if (job->error == EFBIG) {
        /* take the signal that the limit raised, which the program must not see */
        struct timespec now = {0, 0};
        sigset_t limit;
        sigemptyset(&limit);
        sigaddset(&limit, SIGXFSZ);
        sigtimedwait(&limit, NULL, &now);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return job->error == 0;
}

static int act_append(struct job *job, int fd)
{
    for (uint64_t at = 0; at < job->size;) {
        ssize_t done = write(fd, (const char *)job->data + at, job->size - at);
        if (done <= 0)
            return done < 0 ? errno : ENOSPC;
        at += (uint64_t)done;
    }
    return 0;
}

static int act_allocate(struct job *job, int fd)
{
    return posix_fallocate(fd, (off_t)job->from, (off_t)job->size);
}

static int act_truncate(struct job *job, int fd)
{
    return ftruncate(fd, (off_t)job->size) == 0 ? 0 : errno;
}

static int act_map(struct job *job, int fd)
{
    int protection = (job->flags & O_ACCMODE) == O_RDONLY ? PROT_READ : PROT_READ | PROT_WRITE;
    job->result = mmap(NULL, job->size, protection, MAP_SHARED, fd, (off_t)job->from);
    return job->result == MAP_FAILED ? errno : 0;
}

static int act_read(struct job *job, int fd)
{
    size_t room = 64 << 10, size = 0;
    char *text = malloc(room);
    while (text) {
        ssize_t got = read(fd, text + size, room - size - 1);
        if (got <= 0)
            break;
        size += (size_t)got;
        if (room - size < 8192) {
            char *more = realloc(text, room *= 2);
            if (!more)
                break;
            text = more;
        }
    }
    if (!text)
        return ENOMEM;
    text[size] = 0;
    job->result = text;
    return 0;
}

bool file_append(const char *path, const void *data, uint64_t size)
{
    struct job job = {path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW, act_append, data, 0, size, NULL, 0, -1};
    return run(&job);
}

/* room on the disk for the bytes from `from` on; returns 0 or an error number */
int file_allocate(const char *path, uint64_t from, uint64_t size)
{
    struct job job = {path, O_RDWR | O_NOFOLLOW, act_allocate, NULL, from, size, NULL, 0, -1};
    run(&job);
    return job.error;
}

bool file_truncate(const char *path, uint64_t size)
{
    struct job job = {path, O_RDWR | O_NOFOLLOW, act_truncate, NULL, 0, size, NULL, 0, -1};
    return run(&job);
}

void *file_map(const char *path, bool writable, uint64_t from, uint64_t size)
{
    struct job job = {path, (writable ? O_RDWR : O_RDONLY) | O_NOFOLLOW, act_map, NULL, from, size, NULL, 0, -1};
    return run(&job) ? job.result : NULL;
}

/* all of a file, with an end of string; the caller frees it */
char *file_read(const char *path)
{
    struct job job = {path, O_RDONLY, act_read, NULL, 0, 0, NULL, 0, -1};
    return run(&job) ? job.result : NULL;
}

/* DIR/PREFIX_NUMBER, in OWN_ROOM bytes */
void own_path(char *to, const char *prefix, int number)
{
    snprintf(to, OWN_ROOM, "%s/%.8s_%d", options.dir, prefix, number);
}

/* create PREFIX_<lowest free number>, with its path in `path`; returns the number, -1 when that fails */
int create_numbered(const char *prefix, char *path)
{
    /* numbers are given in order of creation over all processes, so a search from the last one known is enough */
    static _Atomic int hint[2];
    if (options.keeper[0]) {
        snprintf(path, OWN_ROOM, "%s/%.8s", options.dir, prefix);
        struct job job = {path, O_CREAT | O_EXCL, NULL, NULL, 0, 0, NULL, 0, -1};
        if (!run(&job))
            return -1;
        own_path(path, prefix, job.number);
        return job.number;
    }
    _Atomic int *from = &hint[prefix[0] == 's'];
    for (int number = *from; number < 1000000; number++) {
        own_path(path, prefix, number);
        struct job job = {path, O_CREAT | O_EXCL | O_RDWR | O_NOFOLLOW, NULL, NULL, 0, 0, NULL, 0, -1};
        if (run(&job)) {
            *from = number + 1;
            return number;
        }
        if (job.error != EEXIST)
            return -1;
    }
    return -1;
}

/* notes of this process, in its file process_<P>: mapped, so that they can still be made when the program has
   changed its user, its root or its limits; readers skip the zeros between and after them */
enum { NOTES_ROOM = 16 << 10, NOTES_TEXT = NOTES_ROOM - 32, OFFSET_BITS = 40 };

static struct notes {
    char text[NOTES_TEXT];
    /* where this process first started another one, and where it makes a call that may (an exec that works does
       not come back): a stream's number + 1 above OFFSET_BITS, below them how many bytes of packets come before;
       0: nowhere. Beside the text, which a program can fill up */
    _Atomic uint64_t started;
    _Atomic uint64_t starting;
    _Atomic uint64_t used; /* a forked child that has no file may write here beside its parent */
    _Atomic uint64_t dropped;
} *notes;
_Static_assert(sizeof(struct notes) == NOTES_ROOM, "layout");

/* `path` exists and is empty */
bool notes_begin(const char *path)
{
    struct notes *fresh = file_allocate(path, 0, NOTES_ROOM) == 0 ? file_map(path, true, 0, NOTES_ROOM) : NULL;
    if (!fresh)
        return false;
    if (notes)
        munmap(notes, NOTES_ROOM);
    notes = fresh;
    return true;
}

/* append a line `key value` to the notes of this process */
void note(const char *key, const char *format, ...)
{
    char line[PATH_ROOM + TEXT_ROOM];
    if (!notes || process < 0)
        return;
    int head = snprintf(line, sizeof line, "%s ", key);
    va_list arguments;
    va_start(arguments, format);
    int body = vsnprintf(line + head, sizeof line - (size_t)head - 1, format, arguments);
    va_end(arguments);
    if (body < 0)
        return;
    size_t size = (size_t)head + (size_t)body;
    if (size > sizeof line - 2)
        size = sizeof line - 2;
    for (size_t i = 0; i < size; i++)
        if (line[i] == '\n')
            line[i] = '?';
    line[size++] = '\n';
    uint64_t at = atomic_load(&notes->used);
    do {
        if (at > NOTES_TEXT || size > NOTES_TEXT - at) {
            atomic_fetch_add(&notes->dropped, 1);
            return;
        }
    } while (!atomic_compare_exchange_weak(&notes->used, &at, at + size));
    memcpy(notes->text + at, line, size);
}

/* the end of a stream as it is now; 0 where it has none yet */
static uint64_t place(const struct stream *s)
{
    if (!notes || process < 0 || s->number < 0 || s->bytes >> OFFSET_BITS)
        return 0;
    return ((uint64_t)s->number + 1) << OFFSET_BITS | s->bytes;
}

/* a call is made that starts another process, or another program in this one: then, or after a kill, no code of
   the recorder runs that could note it */
void note_starting(const struct stream *s)
{
    uint64_t here = place(s);
    if (here)
        atomic_store(&notes->starting, here);
}

/* the call has returned; nothing ran in the thread since it was made */
void note_started(const struct stream *s, bool success)
{
    uint64_t none = 0, here = place(s);
    if (!here)
        return;
    if (success)
        atomic_compare_exchange_strong(&notes->started, &none, here);
    atomic_store(&notes->starting, 0);
}
