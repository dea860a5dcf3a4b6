/* one thread's stream: from the blocks it enters to PT packets */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "packets.h"
#include "recorder.h"

enum { SLACK = 256 }; /* room that is always left, so that a stream can be ended properly */

struct block state_off = {.target = NO_TARGET, .fall = NO_TARGET, .kind = KIND_OFF};
struct block state_syscall = {.target = NO_TARGET, .fall = NO_TARGET, .kind = KIND_SYSCALL};
struct block state_lost = {.target = NO_TARGET, .fall = NO_TARGET, .kind = KIND_LOST};

/* end a stream that has no room left, before the block at `ip` */
static void stop(struct stream *s, uint64_t ip, uint32_t why)
{
    if (options.log)
        log_interrupt(s, ip, false);
    if (s->flags & TRACING)
        packet_leave(s, ip);
    s->lost = why;
    s->previous = &state_lost;
    s->lost_blocks = 1;
}

/* make room, and put a PSB where one is due; `ip` is about to be executed */
static bool refill(struct stream *s, uint64_t ip)
{
    if (options.max && s->bytes + SLACK > options.max) {
        stop(s, ip, LOST_MAX_SIZE);
        return false;
    }
    uint64_t room;
    uint8_t *at = grow_at(&s->file, PAGE + s->bytes, 2 * SLACK, &room);
    if (!at) {
        stop(s, ip, s->file.error == ENOSPC || s->file.error == EDQUOT ? LOST_DISK_FULL : LOST_REFUSED);
        return false;
    }
    s->base = at - s->bytes;
    if (s->bytes >= s->psb_next)
        packet_psb(s, ip);
    s->limit = (uint64_t)(at - s->base) + room - SLACK;
    if (s->limit > s->psb_next)
        s->limit = s->psb_next;
    if (options.max && s->limit > options.max - SLACK)
        s->limit = options.max - SLACK;
    return true;
}

static void __attribute__((noinline)) refill_block(struct stream *s, struct block *b)
{
    refill(s, b->start);
}

/* a stream before recording has begun for its thread: in memory only */
struct stream *stream_unborn(unsigned vcpu)
{
    struct stream *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->vcpu = vcpu;
    s->number = -1;
    s->previous = &state_off;
    s->tnt = 1;
    streams[vcpu] = s;
    unsigned top = atomic_load(&vcpu_top);
    while (vcpu + 1 > top && !atomic_compare_exchange_weak(&vcpu_top, &top, vcpu + 1))
        ;
    return s;
}

/* the stream gets its file and moves into the first page of it */
static struct stream *begin(struct stream *unborn)
{
    char path[OWN_ROOM];
    unsigned vcpu = unborn->vcpu;
    int number = create_numbered("stream", path);
    struct grow file;
    uint64_t room;
    struct stream *s = NULL;
    if (number >= 0 && grow_create(&file, path, LONG_FILE) && grow_at(&file, 0, 2 * PAGE, &room))
        s = file_map(path, true, 0, PAGE);
    if (!s) {
        note("lost", "a thread could not be recorded: no room for its stream");
        unborn->previous = &state_lost;
        return NULL;
    }
    *s = *unborn;
    s->process = (uint32_t)process;
    s->thread = (uint32_t)syscall(SYS_gettid);
    s->number = number;
    s->file = file;
    s->base = file.window + PAGE;
    if (options.log)
        log_begin(s);
    memcpy(s->magic, "BRNMPT01", 8);
    pthread_mutex_lock(&lock);
    streams[vcpu] = s;
    pthread_mutex_unlock(&lock);
    free(unborn);
    this_vcpu = (int)vcpu;
    return s;
}

/* the decoder is about to meet code of a newer version than it knows */
static void meet_epoch(struct stream *s, uint32_t epoch, uint64_t ip)
{
    bool on = s->flags & TRACING;
    if (on)
        packet_leave(s, ip);
    s->epoch = epoch;
    packet_psb(s, 0);
    if (on)
        packet_on(s, ip);
}

/* complete block `p`, which was interrupted before the instruction at `ip`; `fault`: by an instruction of its own */
void stream_interrupt(struct stream *s, struct block *p, uint64_t ip, bool fault)
{
    if (p->kind >= KIND_OFF)
        return;
    bool inside = ip >= p->start && ip < p->end;
    bool known = inside;
    if (!inside || !fault) {
        switch (p->kind) {
        case KIND_COND:
            if (ip == p->target || ip == p->fall) {
                push(s, ip == p->target);
                known = true;
            }
            break;
        case KIND_INDIRECT:
            if (!inside) {
                packet_ip(s, OP_TIP, ip);
                known = true;
            }
            break;
        case KIND_FAR:
            if (ip == p->end) {
                s->entries++;
                packet_off(s);
                return;
            }
            if (!inside) {
                s->entries++;
                packet_ip(s, OP_TIP, ip);
                known = true;
            }
            break;
        default:
            known = known || ip == p->target || ip == p->fall;
        }
    }
    if (!known) {
        s->unexpected++;
        ip = p->start;
    }
    packet_leave(s, ip);
}

/* the end of block `p`, from where the next one starts */
static void resolve(struct stream *s, struct block *b, struct block *p)
{
    uint64_t ip = b->start;
    bool inside = ip >= p->start && ip < p->end;
    /* the emulator runs an instruction from the middle of the block before once more, alone, when it changed
       code of its own block or must not run beside other threads */
    if (inside && b->single && ip <= p->last && (p->kind == KIND_INDIRECT || b->end <= p->last))
        return;
    switch (p->kind) {
    case KIND_COND:
        if (ip == p->target || ip == p->fall) {
            push(s, ip == p->target);
            return;
        }
        break;
    case KIND_FAR:
        s->entries++;
        packet_ip(s, OP_TIP, ip);
        return;
    case KIND_INDIRECT:
        packet_ip(s, OP_TIP, ip);
        return;
    case KIND_VSYSCALL:
        break;
    default:
        if (ip == p->target || ip == p->fall)
            return;
    }
    if (inside)
        return;
    s->unexpected++;
    packet_leave(s, p->start);
    packet_on(s, ip);
}

static bool credible(uint8_t *env);

__attribute__((visibility("hidden"), used)) void stream_slow(struct stream *s, struct block *b, struct block *p,
                                                             uint8_t *env);

/* generated code keeps its CPU state in rbp while it calls; the callers below leave that register alone */
void stream_slow_entry(struct stream *s, struct block *b, struct block *p);
__asm__(".text\n"
        ".type stream_slow_entry, @function\n"
        ".hidden stream_slow_entry\n"
        "stream_slow_entry:\n"
        "    movq %rbp, %rcx\n"
        "    jmp stream_slow\n"
        ".size stream_slow_entry, .-stream_slow_entry\n");

void stream_slow(struct stream *s, struct block *b, struct block *p, uint8_t *env)
{
    struct interrupt interrupt;
    switch (p->kind) {
    case KIND_LOST:
        s->previous = &state_lost;
        s->lost_blocks++;
        return;
    case KIND_OFF:
        s = begin(s);
        if (!s)
            return;
        s->previous = b;
        s->env = credible(env) ? env : NULL;
        atomic_thread_fence(memory_order_seq_cst);
        s->epoch = atomic_load(&process_epoch);
        packet_psb(s, 0);
        packet_on(s, b->start);
        break;
    case KIND_SYSCALL:
        atomic_thread_fence(memory_order_seq_cst);
        if (s->epoch != atomic_load(&process_epoch))
            meet_epoch(s, atomic_load(&process_epoch), 0);
        packet_on(s, b->start);
        break;
    default:
        if (b->handler && signal_frame(s, p, &interrupt)) {
            if (options.log)
                log_interrupt(s, interrupt.ip, interrupt.fault);
            stream_interrupt(s, p, interrupt.ip, interrupt.fault);
            atomic_thread_fence(memory_order_seq_cst);
            if (s->epoch != atomic_load(&process_epoch))
                meet_epoch(s, atomic_load(&process_epoch), 0);
            packet_on(s, b->start);
        } else {
            resolve(s, b, p);
        }
    }
    s->ip = b->start;
    if (b->epoch > s->epoch)
        meet_epoch(s, b->epoch, b->start);
    if (b->key != b->start && b->epoch)
        code_settle(b);
    if (s->bytes >= s->limit)
        refill(s, b->start);
}

/* is this the CPU state of the thread? */
static bool credible(uint8_t *env)
{
    return env && ((uintptr_t)env & 7) == 0 && signal_belongs(env);
}

/* called for each block that is entered: keep it short */
void stream_block(unsigned vcpu, void *data)
{
    struct stream *s = streams[vcpu];
    struct block *b = data, *p = s->previous;
    uint64_t key = b->key;
    s->previous = b;
    s->ip = key;
    uint64_t taken = key == p->target, not_taken = key == p->fall;
    __asm__("" : "+r"(not_taken)); /* no branch on which of the two it is: it would be mispredicted */
    if (likely(taken | not_taken)) {
        uint64_t tnt = s->tnt << p->bits | (taken & p->bits);
        if (likely(!(tnt >> TNT_FULL))) {
            s->tnt = tnt;
            return;
        }
        uint64_t packet = 0xa302 | tnt << 16, bytes = s->bytes;
        memcpy(s->base + bytes, &packet, 8);
        s->tnt = 1;
        s->bytes = bytes + 8;
    } else if (likely(p->kind == KIND_INDIRECT && key != NO_KEY)) {
        packet_ip(s, OP_TIP, key);
    } else if (p->kind == KIND_OFF && !atomic_load_explicit(&started, memory_order_relaxed)) {
        s->previous = p;
        return;
    } else {
        stream_slow_entry(s, b, p);
        return;
    }
    if (unlikely(s->bytes >= s->limit))
        refill_block(s, b);
}

/* the last instruction of the block makes a system call: complete up to here, since some never return */
void stream_syscall(struct stream *s)
{
    struct block *p = s->previous;
    if (p->kind >= KIND_OFF)
        return;
    if (options.log)
        log_syscall(s);
    if (p->kind == KIND_VSYSCALL) {
        packet_leave(s, p->start);
    } else {
        s->entries++;
        packet_off(s);
    }
    s->previous = &state_syscall;
}

/* a signal ends the program without a handler of its own */
void stream_fatal(struct stream *s, int number)
{
    struct block *p = s->previous;
    struct interrupt interrupt;
    if (p->kind >= KIND_OFF)
        return;
    if (signal_current(s, p, number, &interrupt)) {
        if (options.log)
            log_interrupt(s, interrupt.ip, interrupt.fault);
        stream_interrupt(s, p, interrupt.ip, interrupt.fault);
        s->previous = &state_syscall;
    }
}

void stream_close(struct stream *s)
{
    streams[s->vcpu] = NULL;
    if (s->number < 0) {
        free(s);
        return;
    }
    if (options.log)
        log_close(s);
    struct grow file = s->file;
    uint64_t size = PAGE + s->bytes;
    munmap(s, PAGE);
    grow_close(&file, size);
}

/* in a forked child: only the calling thread lives on, and its stream is a new one */
void stream_fork(unsigned vcpu)
{
    unsigned top = atomic_load(&vcpu_top);
    for (unsigned i = 0; i < top; i++) {
        struct stream *s = streams[i];
        if (!s)
            continue;
        streams[i] = NULL;
        uint8_t *env = s->env;
        if (s->number < 0) {
            free(s);
        } else {
            /* the page is shared with the parent, which goes on to use what it says */
            struct grow file = s->file, log = s->log.file;
            grow_forget(&file);
            grow_forget(&log);
            munmap(s, PAGE);
        }
        if (i == vcpu && (s = stream_unborn(i)))
            s->env = env;
    }
}
