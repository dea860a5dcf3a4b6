/* where a signal interrupted the program: from the frame on its stack, or from the emulator when it dies */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <string.h>

#include "recorder.h"

enum { MOST_SIGNALS = 64, CPU_STATE_NEAR = 1 << 20, NESTED = 64, SIGINFO = 4 };

static bool with_information[MOST_SIGNALS + 1]; /* the handler was installed with SA_SIGINFO: its frame holds si_code */

/* registers as far as they matter, of the CPU or saved in a frame; the last three are a handler's arguments */
struct registers {
    uint64_t ip, sp, number, information, context;
};

struct frame {
    struct registers saved;
    bool fault;
};

void signal_action(int number, uint64_t handler, uint64_t flags)
{
    if (number < 1 || number > MOST_SIGNALS || handler < 2)
        return;
    with_information[number] = flags & SIGINFO;
    code_mark_handler(handler);
}

/* the CPU state lies within the object that the emulator's `thread_cpu` points to: other pointers are none to it */
bool signal_belongs(const uint8_t *env)
{
    uint8_t **cpu = dlsym(RTLD_DEFAULT, "thread_cpu");
    return cpu && *cpu && env > *cpu && env < *cpu + CPU_STATE_NEAR;
}

static bool current_registers(const uint8_t *env, struct registers *r)
{
    if (!env)
        return false;
    if (mode64) {
        uint64_t at[17]; /* rax rcx rdx rbx rsp … r15, rip */
        memcpy(at, env, sizeof at);
        *r = (struct registers){at[16], at[4], at[7], at[6], at[2]};
    } else {
        uint32_t at[9]; /* eax ecx edx ebx esp ebp esi edi, eip */
        memcpy(at, env, sizeof at);
        *r = (struct registers){.ip = at[8], .sp = at[4]};
    }
    return true;
}

/* whether an instruction caused the signal: one of these, and sent by the kernel (si_code above 0) */
static bool is_fault(uint64_t number, uint64_t information)
{
    int32_t head[3];
    if (number != SIGSEGV && number != SIGBUS && number != SIGFPE && number != SIGILL && number != SIGTRAP)
        return false;
    return !with_information[number] || !guest_read(information, head, sizeof head) || head[2] > 0;
}

/* the frame of a handler that is about to start with these registers */
static bool read_frame(const struct registers *r, struct frame *out)
{
    if (mode64) {
        /* return address, then the ucontext: 40 bytes, then r8 … r15 rdi rsi rbp rbx rdx rax rcx rsp rip */
        uint64_t saved[17];
        if (r->context != r->sp + 8 || r->number < 1 || r->number > MOST_SIGNALS ||
            !guest_read(r->sp + 48, saved, sizeof saved))
            return false;
        out->saved = (struct registers){saved[16], saved[15], saved[8], saved[9], saved[12]};
        out->fault = is_fault(r->number, r->information);
        return true;
    }
    /* return address, signal; then siginfo and ucontext by address and themselves, or the bare context */
    uint32_t head[4], saved[15];
    if (!guest_read(r->sp, head, sizeof head) || head[1] < 1 || head[1] > MOST_SIGNALS)
        return false;
    bool full = head[3] == (uint32_t)(r->sp + 144);
    if (!guest_read(r->sp + (full ? 164 : 8), saved, sizeof saved))
        return false;
    /* gs fs es ds edi esi ebp esp ebx edx ecx eax trapno err eip */
    out->saved = (struct registers){.ip = saved[14], .sp = saved[7]};
    out->fault = full ? is_fault(head[1], head[2]) : is_fault(head[1], 0);
    return true;
}

/* several handlers may have been prepared at once: only the last has begun, the others' frames lie under it */
static bool follows(const struct block *p, uint64_t ip)
{
    if (ip >= p->start && ip < p->end)
        return true;
    return p->kind == KIND_INDIRECT || p->kind == KIND_FAR ? false : ip == p->target || ip == p->fall;
}

static void unwind(struct block *p, struct frame *frame)
{
    for (int i = 0; i < NESTED && !follows(p, frame->saved.ip) && code_is_handler(frame->saved.ip); i++) {
        struct frame inner;
        if (!read_frame(&frame->saved, &inner))
            return;
        *frame = inner;
    }
}

bool signal_frame(struct stream *s, struct block *p, struct interrupt *out)
{
    struct registers r;
    struct frame frame;
    if (!current_registers(s->env, &r) || !read_frame(&r, &frame))
        return false;
    unwind(p, &frame);
    *out = (struct interrupt){frame.saved.ip, frame.fault};
    return true;
}

bool signal_current(struct stream *s, struct block *p, int number, struct interrupt *out)
{
    struct registers r;
    if (!current_registers(s->env, &r))
        return false;
    struct frame frame = {.saved = r, .fault = is_fault((uint64_t)number, 0)};
    unwind(p, &frame);
    *out = (struct interrupt){frame.saved.ip, frame.fault};
    return true;
}
