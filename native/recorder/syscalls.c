/* system calls that matter to the recorder */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "recorder.h"

enum call {
    CALL_OTHER,
    CALL_OPEN,
    CALL_PROTECT,
    CALL_MAP,
    CALL_MAP_ANY,
    CALL_MOVE,
    CALL_ACTION,
    CALL_OLD_ACTION,
    CALL_SIGNAL,
    CALL_EXEC,
    CALL_EXEC_AT,
    CALL_FORK,
    CALL_CLONE,
    CALL_CLONE_3,
};

/* clang-format off */
static enum call call64(int64_t number)
{
    switch (number) {
    case 2: case 85: case 257: case 437: return CALL_OPEN;
    case 9: return CALL_MAP;
    case 10: case 329: return CALL_PROTECT;
    case 11: case 12: case 25: case 30: case 67: case 216: return CALL_MOVE;
    case 13: return CALL_ACTION;
    case 56: return CALL_CLONE;
    case 57: case 58: return CALL_FORK;
    case 59: return CALL_EXEC;
    case 322: return CALL_EXEC_AT;
    case 435: return CALL_CLONE_3;
    default: return CALL_OTHER;
    }
}

static enum call call32(int64_t number)
{
    switch (number) {
    case 2: case 190: return CALL_FORK;
    case 5: case 8: case 295: case 437: return CALL_OPEN;
    case 120: return CALL_CLONE;
    case 192: return CALL_MAP;
    case 125: case 380: return CALL_PROTECT;
    case 45: case 91: case 117: case 163: case 257: case 397: case 398: return CALL_MOVE;
    case 90: return CALL_MAP_ANY;
    case 174: return CALL_ACTION;
    case 67: return CALL_OLD_ACTION;
    case 48: return CALL_SIGNAL;
    case 11: return CALL_EXEC;
    case 358: return CALL_EXEC_AT;
    case 435: return CALL_CLONE_3;
    default: return CALL_OTHER;
    }
}

/* clang-format on */

static _Thread_local bool maps_code __attribute__((tls_model("initial-exec")));
static _Thread_local bool moves __attribute__((tls_model("initial-exec")));
static _Thread_local bool starts __attribute__((tls_model("initial-exec"))); /* a process, or a program in this one */

static void note_action(int number, uint64_t action)
{
    /* handler, flags as the kernel has them */
    uint64_t handler, flags;
    if (action && guest_word(action, &handler) && guest_word(action + (mode64 ? 8 : 4), &flags))
        signal_action(number, handler, flags);
}

/* threads do not count */
static bool starts_another(enum call call, uint64_t first)
{
    uint64_t flags;
    switch (call) {
    case CALL_FORK:
    case CALL_EXEC:
    case CALL_EXEC_AT:
        return true;
    case CALL_CLONE:
        return !(first & CLONE_THREAD);
    case CALL_CLONE_3:
        return guest_read(first, &flags, sizeof flags) && !(flags & CLONE_THREAD);
    default:
        return false;
    }
}

void syscall_enter(uint64_t id, unsigned vcpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                   uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8)
{
    (void)id, (void)a7, (void)a8;
    struct stream *s = streams[vcpu];
    if (!s)
        return;
    this_vcpu = (int)vcpu;
    stream_syscall(s);
    effect_begins(s, number, (uint64_t[]){a1, a2, a3, a4, a5, a6});
    maps_code = moves = false;
    enum call call = mode64 ? call64(number) : call32(number);
    starts = starts_another(call, a1);
    if (starts)
        note_starting(s);
    switch (call) {
    case CALL_MAP:
        moves = true;
        maps_code = a3 & PROT_EXEC;
        break;
    case CALL_PROTECT:
        maps_code = a3 & PROT_EXEC;
        break;
    case CALL_MAP_ANY:
        maps_code = moves = true;
        break;
    case CALL_MOVE:
        moves = true;
        break;
    case CALL_ACTION:
        note_action((int)a1, a2);
        break;
    case CALL_OLD_ACTION: {
        /* handler, mask, flags */
        uint64_t handler, flags;
        if (a2 && guest_word(a2, &handler) && guest_word(a2 + 8, &flags))
            signal_action((int)a1, handler, flags);
        break;
    }
    case CALL_SIGNAL:
        signal_action((int)a1, a2, 0);
        break;
    case CALL_EXEC:
        exec_follow(AT_FDCWD, a1, a2, a3, 0);
        break;
    case CALL_EXEC_AT:
        exec_follow((int)a1, a2, a3, a4, (int)a5);
        break;
    default:
        break;
    }
}

void syscall_leave(uint64_t id, unsigned vcpu, int64_t number, int64_t result)
{
    (void)id;
    exec_failed(); /* one that had started something would not return */
    effect_ends(result);
    if (starts) {
        starts = false;
        /* in the child, which has notes of its own, the result is 0 */
        if (streams[vcpu])
            note_started(streams[vcpu], result > 0);
    }
    if (moves) {
        moves = false;
        map_moved();
    }
    if (maps_code) {
        maps_code = false;
        map_changed();
    }
    if (!options.start_open || atomic_load_explicit(&started, memory_order_relaxed) || result < 0)
        return;
    struct stat status;
    if ((mode64 ? call64(number) : call32(number)) == CALL_OPEN && fstat((int)result, &status) == 0 &&
        status.st_dev == options.dev && status.st_ino == options.ino)
        atomic_store(&started, true);
}
