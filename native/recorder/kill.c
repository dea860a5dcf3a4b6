/* the emulator ends a program that dies by a signal with kill(): it is made to complete the stream before */
#define _GNU_SOURCE
#include <elf.h>
#include <inttypes.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "recorder.h"

static int (*real_kill)(pid_t pid, int number);

/* a kill of the emulator by itself: the last chance to complete the stream */
static int hooked_kill(pid_t pid, int number)
{
    if (pid == getpid() && this_vcpu >= 0 && streams[this_vcpu])
        stream_fatal(streams[this_vcpu], number);
    return real_kill(pid, number);
}

/* the place in the main program's relocations through which it calls kill() */
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
        case DT_JMPREL:
            tables[0] = (const void *)dynamic->d_un.d_ptr;
            break;
        case DT_PLTRELSZ:
            sizes[0] = dynamic->d_un.d_val;
            break;
        case DT_RELA:
            tables[1] = (const void *)dynamic->d_un.d_ptr;
            break;
        case DT_RELASZ:
            sizes[1] = dynamic->d_un.d_val;
            break;
        case DT_SYMTAB:
            symbols = (const void *)dynamic->d_un.d_ptr;
            break;
        case DT_STRTAB:
            names = (const void *)dynamic->d_un.d_ptr;
            break;
        default:
            break;
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

/* the page's protection; -1 when it cannot be found */
static int protection_of(uintptr_t page)
{
    char *maps = file_read("/proc/self/maps"), mode[5];
    int protection = -1;
    for (char *row = maps; row && protection < 0; row = (row = strchr(row, '\n')) ? row + 1 : NULL) {
        uintptr_t start, end;
        if (sscanf(row, "%" SCNxPTR "-%" SCNxPTR " %4s", &start, &end, mode) == 3 && start <= page && page < end)
            protection =
                (mode[0] == 'r' ? PROT_READ : 0) | (mode[1] == 'w' ? PROT_WRITE : 0) | (mode[2] == 'x' ? PROT_EXEC : 0);
    }
    free(maps);
    return protection;
}

/* put our own function where the emulator looks up kill(); false where no way in is found */
bool kill_hook(void)
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
