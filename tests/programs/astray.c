/* ways off the path, as attacks take them: astray WAY DOCUMENT. Each ends the program itself where it can */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define APART __attribute__((noinline))

static volatile int sum;

/* code to go astray to: a gadget at the end of a function, and one that begins inside of an instruction */

extern const char gadget[], split[], whole[];
__asm__(".text\n"
        ".globl gadgets, gadget, split, whole\n"
        ".type gadgets, @function\n"
        "gadgets:\n"
        ".cfi_startproc\n"
        "    nop\n"
        "    nop\n"
        "gadget:\n"
        "    xor %edi, %edi\n"
        "    mov $60, %eax\n"
        "    syscall\n"
        "whole:\n"
        "    .byte 0xb8\n"
        "split:\n"
        "    .byte 0x90, 0x90, 0x90, 0xc3\n" /* mov $0xc3909090, %eax; or nop, nop, nop, ret */
        "    ret\n"
        ".cfi_endproc\n"
        ".size gadgets, .-gadgets\n");

/* a return address is overwritten */
APART static void smash(uintptr_t to)
{
    __asm__ volatile("mov %0, 8(%%rbp)" : : "r"(to) : "memory");
    sum += 1;
}

APART static void to_gadget(void)
{
    smash((uintptr_t)gadget);
}

APART static void to_nowhere(void)
{
    smash(0x4141414141);
}

APART static void to_stack(void)
{
    volatile unsigned char code[64];
    memset((void *)code, 0x90, sizeof code);
    smash((uintptr_t)code);
}

APART static void to_function(void)
{
    smash((uintptr_t)&_exit);
}

/* a function's address is overwritten */
APART static void call(uintptr_t to)
{
    void (*volatile function)(void) = (void (*)(void))to;
    function();
    sum += 1;
}

APART static void into_middle(void)
{
    call((uintptr_t)gadget);
}

APART static void into_instruction(void)
{
    ((void (*)(void))whole)();
    call((uintptr_t)split);
}

APART static void into_heap(void)
{
    unsigned char *heap = malloc(256);
    memset(heap, 0xc3, 256);
    call((uintptr_t)heap);
}

APART static void into_written(void)
{
    unsigned char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(page, 0xc3, 4096);
    call((uintptr_t)page);
}

APART static void into_changed(void)
{
    uintptr_t page = (uintptr_t)split & ~(uintptr_t)4095;
    mprotect((void *)page, 8192, PROT_READ | PROT_WRITE | PROT_EXEC);
    *(volatile char *)split = (char)0xc3;
    call((uintptr_t)split);
}

APART static void by_abort(void)
{
    abort();
}

static const struct {
    const char *name;
    void (*go)(void);
} ways[] = {
    {"gadget", to_gadget},     {"nowhere", to_nowhere},   {"stack", to_stack},
    {"function", to_function}, {"middle", into_middle},   {"instruction", into_instruction},
    {"heap", into_heap},       {"written", into_written}, {"changed", into_changed},
    {"abort", by_abort},
};

int main(int count, char **words)
{
    FILE *document = count == 3 ? fopen(words[2], "r") : NULL;
    if (!document)
        return 2;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; ++i) {
        if (!strcmp(ways[i].name, words[1]))
            ways[i].go();
    }
    printf("%d\n", sum);
    return 0;
}
