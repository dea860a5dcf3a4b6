/* the recorder: writes what a program executes under QEMU user mode as Intel PT packets, one stream a thread */
// clang-format Language: C
#ifndef BARNUM_RECORDER_H
#define BARNUM_RECORDER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "qemu.h"

/* the plugin's own: reached directly, without the linker's tables */
#pragma GCC visibility push(hidden)

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

enum { PAGE = 4096, PATH_ROOM = 4096, OWN_ROOM = 1024, TEXT_ROOM = 256 };

/* how a translation block ends; from KIND_OFF on: states of a stream in which no block is being executed */
enum kind {
    KIND_FALL, /* no branch: the next block follows */
    KIND_COND,
    KIND_DIRECT,   /* jump or call */
    KIND_INDIRECT, /* jump, call or return */
    KIND_REP,      /* string instruction, entered once an iteration */
    KIND_FAR,      /* system call, interrupt, far transfer */
    KIND_VSYSCALL, /* the emulated vsyscall page: no code to read there */
    KIND_OFF,      /* recording has not begun */
    KIND_SYSCALL,  /* a system call is under way or just done */
    KIND_LOST,     /* the stream is full */
};

#define NO_KEY (~UINT64_C(0))    /* a block that always takes the slow path */
#define NO_TARGET (~UINT64_C(1)) /* equals no key */

/* one line of the processor's cache: the blocks of a run do not fit into it */
struct block {
    uint64_t key;    /* start, or NO_KEY */
    uint64_t target; /* where the branch goes when it is taken */
    uint64_t fall;   /* after the last instruction, where execution may go on there */
    uint64_t start;
    uint64_t last;  /* the last instruction */
    uint64_t end;   /* after the last instruction */
    uint32_t epoch; /* code version that its bytes belong to */
    uint8_t bits;   /* 1 when the end costs a TNT bit */
    uint8_t kind;
    bool handler; /* a signal handler starts here */
    bool single;  /* one instruction cut out of a longer block by the emulator */
    struct block *next;
};
enum { LINE = 64 };
_Static_assert(sizeof(struct block) == LINE, "a block must fit a line");

/* a file that grows through a shared mapping: what was stored survives a kill */
struct grow {
    char path[OWN_ROOM];
    uint8_t *window;    /* mapping */
    uint64_t window_at; /* its offset in the file */
    uint64_t window_size;
    uint64_t allocated; /* bytes of the file that have room on the disk */
    int error;          /* why it could not grow */
};

struct insn {
    uint64_t address;
    uint32_t size;
    uint32_t branch;
};

struct log {
    struct grow file;
    uint64_t used;
    uint64_t start, last, before_last;
    uint32_t count, size, branch;
    bool open;
};

/* lives in the first page of its file; the fields up to `unexpected` are read by barnum.recording.raw */
struct stream {
    char magic[8];
    uint32_t process;
    uint32_t thread;
    uint64_t bytes;
    uint64_t tnt;       /* pending bits below a leading 1, the oldest highest; 1: none */
    uint32_t tnt_count; /* unused: the leading 1 of `tnt` gives it */
    uint32_t lost;
    uint64_t lost_blocks;
    uint32_t flags;
    uint32_t epoch;
    uint64_t ip;
    uint64_t unexpected; /* transfers of no known cause */

    struct block *previous;
    uint8_t *base;  /* where the stream's first byte would be, if all of it were mapped */
    uint64_t limit; /* number of bytes from which on refill() is needed first */
    uint64_t last_ip;
    uint8_t *env;      /* the emulator's CPU state */
    uint64_t psb_next; /* offset in the stream at which the next PSB is due */
    uint64_t entries;  /* executed blocks that end far: by a system call, mostly */
    unsigned vcpu;
    int number; /* -1: has no file yet */
    struct grow file;
    struct log log;
};
_Static_assert(sizeof(struct stream) <= PAGE, "a stream must fit its header page");
_Static_assert(offsetof(struct stream, bytes) == 16, "layout");
_Static_assert(offsetof(struct stream, tnt) == 24, "layout");
_Static_assert(offsetof(struct stream, lost) == 36, "layout");
_Static_assert(offsetof(struct stream, lost_blocks) == 40, "layout");
_Static_assert(offsetof(struct stream, flags) == 48, "layout");
_Static_assert(offsetof(struct stream, ip) == 56, "layout");

enum { LOST_NONE, LOST_MAX_SIZE, LOST_DISK_FULL, LOST_REFUSED };

struct options {
    char dir[OWN_ROOM - 32]; /* room is left for the names of files in it */
    char keeper[TEXT_ROOM];  /* socket of what keeps the work folder; empty where `dir` itself is within reach */
    int key;                 /* descriptor that the keeper's key is read from; -1: none */
    uint64_t memory;         /* most bytes of data of a process; 0: no limit */
    uint64_t processes;      /* most processes and threads at a time; 0: no limit */
    char plugin[PATH_ROOM];
    char qemu64[PATH_ROOM];
    char qemu32[PATH_ROOM];
    char cpu64[TEXT_ROOM];
    char cpu32[TEXT_ROOM];
    bool start_open;
    uint64_t dev, ino;
    uint64_t max;
    bool log;
    bool check; /* say whether the plugin works in this emulator, and end */
    int parent;
};

/* state.c */
extern struct options options;
extern int interface_version; /* the emulator's */
extern bool mode64;
extern int process;                    /* own number */
extern _Atomic uint32_t process_epoch; /* code version */
extern atomic_bool started;
extern pthread_mutex_t lock;  /* taken after the emulator's own locks, never before them */
enum { VCPU_ROOM = 1 << 22 }; /* as many as the kernel has thread numbers */
extern struct stream *streams[VCPU_ROOM];
extern _Atomic unsigned vcpu_top; /* one above the highest vCPU seen */
/* -1 until the thread has executed something */
extern _Thread_local int this_vcpu __attribute__((tls_model("initial-exec")));

/* files.c */
bool file_append(const char *path, const void *data, uint64_t size);
int file_allocate(const char *path, uint64_t from, uint64_t size);
bool file_truncate(const char *path, uint64_t size);
void *file_map(const char *path, bool writable, uint64_t from, uint64_t size);
char *file_read(const char *path);
void own_path(char *to, const char *prefix, int number);
int create_numbered(const char *prefix, char *path);
bool notes_begin(const char *path);
void note(const char *key, const char *format, ...) __attribute__((format(printf, 2, 3)));
void note_starting(const struct stream *s);
void note_started(const struct stream *s, bool success);

/* keeper.c */
enum { KEEPER_CREATE = 1, KEEPER_READ, KEEPER_WRITE, KEEPER_APPEND, KEEPER_RESIZE };
enum { KEEPER_DONE = -2 };
bool keeper_take_key(int fd);
int keeper_hand_on(void);
int keeper_ask(uint32_t what, const char *name, uint64_t size, int *number);

/* grow.c */
enum { LONG_FILE = 36, LOG_FILE = 22 };
bool grow_create(struct grow *grow, const char *path, int bits);
uint8_t *grow_at(struct grow *grow, uint64_t offset, uint64_t want, uint64_t *room);
void grow_close(struct grow *grow, uint64_t size);
void grow_forget(struct grow *grow);

/* guest.c */
extern uint64_t guest_offset;
void guest_find(void);
bool guest_read(uint64_t address, void *to, size_t size);
bool copy_in(const void *from, void *to, size_t size);
bool guest_word(uint64_t address, uint64_t *value);
long guest_string(uint64_t address, char *to, size_t room);

/* classify.c */
enum kind classify(const uint8_t *bytes, size_t size, uint64_t address, size_t *length, uint64_t *target);

/* code.c */
bool code_begin(void);
void code_fork(void);
void code_abandon(void);
void *code_memory(size_t size);
uint32_t code_bytes(uint64_t start, const uint8_t *bytes, size_t size);
struct block *code_block(const struct block *like);
void code_mark_handler(uint64_t address);
bool code_is_handler(uint64_t address);
void code_settle(struct block *block);

/* maps.c */
extern uint32_t map_generation;
extern int (*walk_regions)(void *data, region_callback callback);
void map_cover(uint64_t start, uint64_t end);
void map_changed(void);
void map_moved(void);
void map_fork(int parent);

/* stream.c */
extern struct block state_off, state_syscall, state_lost;
void stream_block(unsigned vcpu, void *data);
void stream_syscall(struct stream *s);
void stream_interrupt(struct stream *s, struct block *p, uint64_t ip, bool fault);
void stream_fatal(struct stream *s, int number);
void stream_close(struct stream *s);
void stream_fork(unsigned vcpu);
struct stream *stream_unborn(unsigned vcpu);

/* translate.c */
void block_translated(uint64_t id, struct qemu_plugin_tb *tb);

/* signals.c */
struct interrupt {
    uint64_t ip;
    bool fault;
};
void signal_action(int number, uint64_t handler, uint64_t flags);
bool signal_frame(struct stream *s, struct block *p, struct interrupt *out);
bool signal_belongs(const uint8_t *env);
bool signal_current(struct stream *s, struct block *p, int number, struct interrupt *out);

/* kill.c */
bool kill_hook(void);

/* syscalls.c */
void syscall_enter(uint64_t id, unsigned vcpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                   uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8);
void syscall_leave(uint64_t id, unsigned vcpu, int64_t number, int64_t result);

/* effects.c */
void effect_begins(const struct stream *s, int64_t number, const uint64_t arguments[6]);
void effect_ends(int64_t result);
void effects_lock_for_fork(void);
void effects_unlock_after_fork(void);
void effects_fork(void);

/* exec.c */
void exec_follow(int folder, uint64_t path, uint64_t arguments, uint64_t environment, int flags);
void exec_failed(void);
void exec_own_path(char *to);

/* log.c */
void log_begin(struct stream *s);
void log_instruction(unsigned vcpu, void *data);
void log_interrupt(struct stream *s, uint64_t ip, bool fault);
void log_syscall(struct stream *s);
void log_close(struct stream *s);

#pragma GCC visibility pop

#endif
