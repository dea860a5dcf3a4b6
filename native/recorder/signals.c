/* where a signal interrupted the program: from the frame on its stack, or from the emulator when it dies */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <inttypes.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

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

/* the emulator's `thread_cpu` holds the CPU state a little way in: what lies elsewhere is no CPU state */
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

/* signals that an instruction causes, when the kernel sends them (si_code above 0) and no other program */
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

static int (*real_kill)(pid_t pid, int number);

/* the emulator ends a program by a signal with kill(itself): the last chance to complete the stream */
static int hooked_kill(pid_t pid, int number)
{
    if (pid == getpid() && this_vcpu >= 0 && streams[this_vcpu])
        stream_fatal(streams[this_vcpu], number);
    return real_kill(pid, number);
}

static int find_kill(struct dl_phdr_info *info, size_t size, void *data)
{
    void ***slot = data;
    const ElfW(Dyn) *dynamic = NULL;
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
            dynamic = (const void *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
    const ElfW(Rela) *tables[2] = {0};
    size_t sizes[2] = {0};
    const ElfW(Sym) *symbols = NULL;
    const char *names = NULL;
    for (; dynamic && dynamic->d_tag != DT_NULL; dynamic++) {
        switch (dynamic->d_tag) {
        case DT_JMPREL: tables[0] = (const void *)dynamic->d_un.d_ptr; break;
        case DT_PLTRELSZ: sizes[0] = dynamic->d_un.d_val; break;
        case DT_RELA: tables[1] = (const void *)dynamic->d_un.d_ptr; break;
        case DT_RELASZ: sizes[1] = dynamic->d_un.d_val; break;
        case DT_SYMTAB: symbols = (const void *)dynamic->d_un.d_ptr; break;
        case DT_STRTAB: names = (const void *)dynamic->d_un.d_ptr; break;
        default: break;
        }
    }
    for (int t = 0; symbols && names && t < 2; t++)
        for (size_t i = 0; tables[t] && i < sizes[t] / sizeof *tables[t]; i++) {
            const ElfW(Rela) *row = &tables[t][i];
            unsigned type = ELF64_R_TYPE(row->r_info);
            if ((type == R_X86_64_JUMP_SLOT || type == R_X86_64_GLOB_DAT) &&
                !strcmp(names + symbols[ELF64_R_SYM(row->r_info)].st_name, "kill"))
                *slot = (void **)(info->dlpi_addr + row->r_offset);
        }
    return 1; /* the main program comes first: no further one */
}

/* what may be done with the page now; -1 when that cannot be found */
static int protection_of(uintptr_t page)
{
    char *maps = file_read("/proc/self/maps"), mode[5];
    int protection = -1;
    for (char *row = maps; row && protection < 0; row = (row = strchr(row, '\n')) ? row + 1 : NULL) {
        uintptr_t start, end;
        if (sscanf(row, "%" SCNxPTR "-%" SCNxPTR " %4s", &start, &end, mode) == 3 && start <= page && page < end)
            protection = (mode[0] == 'r' ? PROT_READ : 0) | (mode[1] == 'w' ? PROT_WRITE : 0) |
                         (mode[2] == 'x' ? PROT_EXEC : 0);
    }
    free(maps);
    return protection;
}

bool signal_hook(void)
{
    void **slot = NULL;
    dl_iterate_phdr(find_kill, &slot);
    if (!slot || !*slot)
        return false;
    uintptr_t page = (uintptr_t)slot & ~(uintptr_t)(PAGE - 1);
    /* read-only only where the emulator was linked with full RELRO: its relocations are final then */
    int protection = protection_of(page);
    bool opens = protection >= 0 && !(protection & PROT_WRITE);
    if (protection < 0 || (opens && mprotect((void *)page, PAGE, protection | PROT_WRITE) != 0))
        return false;
    real_kill = (int (*)(pid_t, int))*slot;
    *slot = (void *)hooked_kill;
    if (opens)
        mprotect((void *)page, PAGE, protection);
    return true;
}
