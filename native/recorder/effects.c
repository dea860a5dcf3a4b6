/* system calls that change the world or leave the program, in the file effects_<P> of each process: the calls with
   their texts as they are made, what they return behind them. barnum.recording.effects reads it */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "effects.h"
#include "recorder.h"

enum {
    MOST_EFFECTS = 1 << 16,  /* of a process, kept one by one; further ones are counted */
    FILE_BITS = 26,          /* and so many bytes of them, which one mapping holds */
    TEXT_BYTES = 4096,       /* of a path */
    WORDS_BYTES = 4096,      /* of all arguments of a program */
    MOST_WORDS = 64,         /* arguments of a program */
    COUNTED_WORDS = 1 << 16, /* up to which they are counted */
    ADDRESS_BYTES = 128,
    NAME_ROOM = 24,
    PARTS_ROOM = 5 * (TEXT_BYTES + 16) + MOST_WORDS * 16,
};

enum { RECORD_CALL = 1, RECORD_RESULT = 2 };
enum part { PART_PATH = 1, PART_FOLDER, PART_TARGET, PART_TARGET_FOLDER, PART_ADDRESS, PART_WORD, PART_LEFT_OUT };
enum { CUT = 1, UNREADABLE = 2 }; /* flags of a part: it was longer, its memory could not be read */
#define UNKNOWN (~UINT64_C(0))

/* first page of the file; a record counts once `used` is above its end */
struct header {
    char magic[8];
    _Atomic uint64_t used;
    uint64_t effects; /* records of calls */
    struct {
        char name[NAME_ROOM];
        uint64_t more; /* how many were counted only */
    } calls[MOST_EFFECT_CALLS];
};
_Static_assert(sizeof(struct header) <= PAGE, "the header must fit its page");

struct record {
    uint32_t size; /* with its parts; a multiple of 8 */
    uint32_t kind;
    uint64_t number; /* of the effect in this file, also of the one whose result this is */
    uint64_t time;   /* nanoseconds; the same clock for all processes */
    int64_t result;
    char name[NAME_ROOM];
    uint32_t thread;
    int32_t stream;
    uint64_t offset;
    uint64_t entry;
    uint64_t arguments[6];
};
_Static_assert(sizeof(struct record) == 128, "layout");

struct part_head {
    uint16_t part, flags;
    uint32_t size; /* of the bytes that follow; the next part begins at a multiple of 8 */
};

struct draft {
    struct record head;
    uint8_t parts[PARTS_ROOM];
    size_t used;
};

static pthread_mutex_t effects_lock = PTHREAD_MUTEX_INITIALIZER;
static struct grow file;
static struct header *header;
static bool refused; /* the file could not be made */
/* number + 1 of the effect of the call under way, and whether it accepts a connection */
static _Thread_local uint64_t pending __attribute__((tls_model("initial-exec")));
static _Thread_local bool accepts __attribute__((tls_model("initial-exec")));

/* --- the file */

static bool make_file(void)
{
    char path[OWN_ROOM];
    uint64_t room;
    if (header || refused)
        return header;
    own_path(path, "effects", process);
    if (file_append(path, "", 0) && grow_create(&file, path, FILE_BITS))
        header = (struct header *)grow_at(&file, 0, 2 * PAGE, &room);
    if (!header) {
        refused = true;
        note("lost", "the effects of this process: no room for their file");
        return false;
    }
    for (size_t i = 0; i < effect_call_count; i++)
        memcpy(header->calls[i].name, effect_calls[i].name, strlen(effect_calls[i].name));
    memcpy(header->magic, "BRNMEFF1", 8);
    atomic_store(&header->used, PAGE);
    return true;
}

/* put a record and its parts behind the others; false where it has no room */
static bool append(struct draft *draft)
{
    uint64_t used = atomic_load_explicit(&header->used, memory_order_relaxed), room;
    draft->head.size = (uint32_t)(sizeof draft->head + draft->used);
    if (used + draft->head.size > UINT64_C(1) << FILE_BITS)
        return false;
    uint8_t *to = grow_at(&file, used, draft->head.size, &room);
    if (!to)
        return false;
    memcpy(to, &draft->head, sizeof draft->head);
    memcpy(to + sizeof draft->head, draft->parts, draft->used);
    atomic_store_explicit(&header->used, used + draft->head.size, memory_order_release);
    return true;
}

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void keep(struct draft *draft, size_t call)
{
    pthread_mutex_lock(&effects_lock);
    if (make_file()) {
        draft->head.time = now();
        draft->head.number = header->effects;
        if (header->effects < MOST_EFFECTS && append(draft))
            pending = ++header->effects;
        else
            header->calls[call].more++;
    }
    pthread_mutex_unlock(&effects_lock);
}

void effects_lock_for_fork(void)
{
    pthread_mutex_lock(&effects_lock);
}

void effects_unlock_after_fork(void)
{
    pthread_mutex_unlock(&effects_lock);
}

/* in a forked child: what its parent notes is no more its business */
void effects_fork(void)
{
    grow_forget(&file);
    memset(&file, 0, sizeof file);
    header = NULL;
    refused = false;
    pending = 0;
}

/* --- texts of a call */

static void add(struct draft *draft, enum part part, unsigned flags, const void *data, size_t size)
{
    struct part_head head = {(uint16_t)part, (uint16_t)flags, (uint32_t)size};
    size_t whole = (sizeof head + size + 7) & ~(size_t)7;
    if (draft->used + whole > sizeof draft->parts)
        return;
    uint8_t *to = draft->parts + draft->used;
    memset(to + whole - 8, 0, 8);
    memcpy(to, &head, sizeof head);
    memcpy(to + sizeof head, data, size);
    draft->used += whole;
}

/* as much of a string as can be read and as `most` bytes hold; returns the part's flags */
static unsigned read_text(uint64_t address, char *to, size_t most, size_t *size)
{
    *size = 0;
    while (*size < most) {
        size_t piece = PAGE - ((address + *size) & (PAGE - 1));
        if (piece > most - *size)
            piece = most - *size;
        if (!guest_read(address + *size, to + *size, piece))
            return UNREADABLE;
        char *end = memchr(to + *size, 0, piece);
        if (end) {
            *size = (size_t)(end - to);
            return 0;
        }
        *size += piece;
    }
    char next;
    return guest_read(address + *size, &next, 1) && !next ? 0 : CUT;
}

/* what a descriptor stands for; AT_FDCWD: the current folder */
static void add_descriptor(struct draft *draft, enum part part, int fd)
{
    char link[64] = "/proc/self/cwd", path[TEXT_BYTES];
    if (fd != AT_FDCWD)
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path);
    if (size >= 0)
        add(draft, part, size == sizeof path ? CUT : 0, path, (size_t)size);
}

/* a path, and the folder that it starts from; an empty one stands for the descriptor itself */
static void add_path(struct draft *draft, enum part part, int folder, uint64_t address)
{
    char text[TEXT_BYTES];
    size_t size = 0;
    if (!address && folder == AT_FDCWD)
        return;
    unsigned flags = address ? read_text(address, text, sizeof text, &size) : 0;
    if (!size && !flags && folder != AT_FDCWD) {
        add_descriptor(draft, part, folder);
        return;
    }
    add(draft, part, flags, text, size);
    if (size && text[0] != '/')
        add_descriptor(draft, part + 1, folder);
}

static void add_text(struct draft *draft, enum part part, uint64_t address)
{
    char text[TEXT_BYTES];
    size_t size;
    unsigned flags = read_text(address, text, sizeof text, &size);
    add(draft, part, flags, text, size);
}

static void add_words(struct draft *draft, uint64_t array)
{
    char text[WORDS_BYTES];
    size_t left = sizeof text;
    uint32_t left_out = 0;
    uint64_t address;
    for (int i = 0; array && i < COUNTED_WORDS && guest_word(array, &address) && address; i++) {
        array += mode64 ? 8 : 4;
        if (i >= MOST_WORDS || !left) {
            left_out++;
            continue;
        }
        size_t size;
        unsigned flags = read_text(address, text, left, &size);
        add(draft, PART_WORD, flags, text, size);
        left -= size;
    }
    if (left_out)
        add(draft, PART_LEFT_OUT, 0, &left_out, sizeof left_out);
}

static void add_address(struct draft *draft, uint64_t address, uint64_t size)
{
    uint8_t bytes[ADDRESS_BYTES];
    if (!address)
        return;
    if (size > sizeof bytes)
        size = sizeof bytes;
    bool readable = guest_read(address, bytes, size);
    add(draft, PART_ADDRESS, readable ? 0 : UNREADABLE, bytes, readable ? size : 0);
}

/* --- which calls are effects */

/* what a message header says of where it goes; 0: nowhere else than its socket */
static bool message_address(uint64_t message, uint64_t *address, uint64_t *size)
{
    uint32_t length = 0;
    if (!guest_word(message, address) || !guest_read(message + (mode64 ? 8 : 4), &length, sizeof length))
        return false;
    *size = length;
    return *address;
}

static bool opens_to_write(uint64_t flags)
{
    return (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC);
}

static bool own_thread(pid_t thread)
{
    return syscall(SYS_tgkill, getpid(), thread, 0) == 0;
}

/* whether this call, with these arguments, is an effect; arguments that lie in memory take their places */
static bool applies(enum effect_rule rule, uint64_t *a)
{
    uint64_t flags, address, size;
    switch (rule) {
    case RULE_ALWAYS:
        return true;
    case RULE_OPEN:
        return opens_to_write(a[1]);
    case RULE_OPEN_AT:
        return opens_to_write(a[2]);
    case RULE_OPEN_HOW:
        if (!guest_read(a[2], &flags, sizeof flags) || !opens_to_write(flags))
            return false;
        a[2] = flags;
        return true;
    case RULE_CLONE:
        return !(a[0] & CLONE_THREAD_FLAG);
    case RULE_CLONE_3:
        if (!guest_read(a[0], &flags, sizeof flags) || flags & CLONE_THREAD_FLAG)
            return false;
        a[0] = flags;
        return true;
    case RULE_MAP:
        return a[2] & PROT_EXEC && (a[2] & PROT_WRITE || a[3] & (MAP_ANONYMOUS | MAP_SHARED));
    case RULE_PROTECT:
        return a[2] & PROT_EXEC;
    case RULE_KILL:
        return a[1] && (pid_t)a[0] != getpid();
    case RULE_KILL_THREAD:
        return a[1] && !own_thread((pid_t)a[0]);
    case RULE_KILL_IN:
        return a[2] && (pid_t)a[0] != getpid();
    case RULE_SIGNAL:
        return a[1];
    case RULE_SEND_TO:
        return a[4];
    case RULE_MESSAGE:
        return message_address(a[1], &address, &size);
    }
    return false;
}

/* the older ways of 32-bit programs: one number for all calls of sockets, and arguments in memory */
static int64_t unfold(int64_t number, uint64_t *a)
{
    static const int16_t by_socket_call[21] = {
        [2] = 361, [3] = 362, [4] = 363, [5] = ACCEPT_32, [11] = 369, [16] = 370, [18] = 364, [20] = 345,
    };
    enum { SOCKET_CALL = 102, OLD_MAP = 90 };
    if (mode64 || (number != SOCKET_CALL && number != OLD_MAP))
        return number;
    uint32_t in_memory[6] = {0};
    uint64_t from = number == OLD_MAP ? a[0] : a[1];
    int64_t real = number == OLD_MAP ? OLD_MAP : a[0] < 21 ? by_socket_call[a[0]] : 0;
    /* shorter lists may end where the memory does */
    for (size_t i = 0; i < 6 && guest_read(from + 4 * i, &in_memory[i], 4); i++)
        ;
    for (size_t i = 0; i < 6; i++)
        a[i] = in_memory[i];
    return real;
}

static void add_parts(struct draft *draft, const char *shape, const uint64_t *a)
{
    int folder = AT_FDCWD;
    for (size_t i = 0; shape[i] && i < 6; i++)
        switch (shape[i]) {
        case 'd':
            folder = (int)a[i];
            break;
        case 'p':
        case 'q':
            add_path(draft, shape[i] == 'p' ? PART_PATH : PART_TARGET, folder, a[i]);
            folder = AT_FDCWD;
            break;
        case 'f':
            if ((int)a[i] >= 0)
                add_descriptor(draft, PART_PATH, (int)a[i]);
            break;
        case 'n':
        case 't':
            add_text(draft, shape[i] == 'n' ? PART_PATH : PART_TARGET, a[i]);
            break;
        case 'v':
            add_words(draft, a[i]);
            break;
        case 'k':
            add_address(draft, a[i], a[i + 1]);
            break;
        case 'm': {
            uint64_t address, size;
            if (message_address(a[i], &address, &size))
                add_address(draft, address, size);
            break;
        }
        default:
            break;
        }
}

/* the thread of `s` makes a system call, up to which its stream is complete */
void effect_begins(const struct stream *s, int64_t number, const uint64_t arguments[6])
{
    uint64_t a[6];
    pending = 0;
    if (s->previous == &state_off || process < 0)
        return;
    for (size_t i = 0; i < 6; i++)
        a[i] = mode64 ? arguments[i] : (uint32_t)arguments[i];
    int call = effect_call(unfold(number, a));
    if (call < 0 || !applies(effect_calls[call].rule, a))
        return;
    struct draft draft;
    draft.used = 0;
    bool known = s->number >= 0 && !s->lost;
    draft.head = (struct record){
        .kind = RECORD_CALL,
        .thread = (uint32_t)syscall(SYS_gettid),
        .stream = s->number,
        .offset = known ? s->bytes : UNKNOWN,
        .entry = known ? s->entries - 1 : UNKNOWN,
    };
    memcpy(draft.head.arguments, a, sizeof a);
    memcpy(draft.head.name, effect_calls[call].name, strlen(effect_calls[call].name));
    add_parts(&draft, effect_calls[call].shape, a);
    accepts = strchr(effect_calls[call].shape, 'r');
    keep(&draft, (size_t)call);
}

/* the call has returned */
void effect_ends(int64_t result)
{
    if (!pending)
        return;
    struct draft draft;
    draft.used = 0;
    draft.head = (struct record){.kind = RECORD_RESULT, .number = pending - 1, .result = result};
    pending = 0;
    if (accepts && result >= 0) {
        uint8_t peer[ADDRESS_BYTES] = {0};
        socklen_t size = sizeof peer;
        if (getpeername((int)result, (struct sockaddr *)peer, &size) == 0)
            add(&draft, PART_ADDRESS, 0, peer, size < sizeof peer ? size : sizeof peer);
    }
    pthread_mutex_lock(&effects_lock);
    if (header) {
        draft.head.time = now();
        append(&draft);
    }
    pthread_mutex_unlock(&effects_lock);
}
