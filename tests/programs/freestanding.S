/* branches of all kinds without any library, so that two runs execute the same instructions */
#ifdef __x86_64__
#define AX rax
#define BX rbx
#define CX rcx
#define DX rdx
#define SI rsi
#define DI rdi
#define SP rsp
#define WORD 8
#define PTR .quad
#else
#define AX eax
#define BX ebx
#define CX ecx
#define DX edx
#define SI esi
#define DI edi
#define SP esp
#define WORD 4
#define PTR .long
#endif
        .intel_syntax noprefix
        .globl _start
        .text
_start: xor     ebx, ebx
        mov     ebp, 12
outer:  lea     AX, [table]
        mov     ecx, ebp
        and     ecx, 3
        jmp     [AX + CX * WORD]
case0:  add     ebx, 1
        jmp     joined
case1:  add     ebx, 2
        jmp     joined
case2:  add     ebx, 3
        .byte   0xeb, 0x00              /* jump to the next instruction */
case3:  nop
joined: mov     ecx, 7
count:  add     ebx, ecx
        loop    count
        xor     ecx, ecx
        jecxz   empty
        ud2
empty:  mov     ecx, 5
        jecxz   never
        mov     ecx, 2
again:  loopne  again
never:  call    leaf
        lea     DX, [leaf]
        call    DX
        push    DX
        call    [SP]
        pop     DX
        call    repret
        call    bounded
        mov     eax, ebp
        call    recurse
        cld
        lea     SI, [source]
        lea     DI, [target]
        mov     ecx, 33
        rep movsb
        mov     ecx, 0
        rep movsb                       /* no iteration at all */
        lea     DI, [target]
        mov     ecx, 50
        mov     al, 'x'
        repne scasb
        lea     SI, [source]
        lea     DI, [target]
        mov     ecx, 40
        repe cmpsb
        test    ebx, 1
        jz      even
        cmovnz  eax, ebx
even:   jmp     crossing
back:   dec     ebp
        jnz     outer
#ifdef __x86_64__
        mov     eax, 39                 /* getpid, a call that fails, then exit_group */
        syscall
        mov     eax, 1
        mov     edi, -1
        lea     rsi, [source]
        mov     edx, 1
        syscall
        cmp     rax, -9
        jne     wrong
        xor     edi, edi
        mov     eax, 231
        syscall
#else
        mov     eax, 20
        int     0x80
        mov     ebx, -1
        lea     ecx, [source]
        mov     edx, 1
        mov     eax, 4
        int     0x80
        cmp     eax, -9
        jne     wrong
        xor     ebx, ebx
        mov     eax, 252
        int     0x80
#endif
wrong:  hlt

leaf:   add     ebx, 5
        ret
repret: .byte   0xf3, 0xc3
bounded:
        .byte   0xf2, 0xe8              /* bnd call */
        .long   leaf - . - 4
        lea     DX, [leaf]
        .byte   0x3e, 0xff, 0xd2        /* notrack call of the register */
        .byte   0xf2, 0xeb, 0x00        /* bnd jmp */
        .byte   0xf2, 0xc3              /* bnd ret */
recurse:
        dec     eax
        jle     bottom
        call    recurse
bottom: ret     

        /* instructions that lie across the ends of pages, and one as long as they get */
        .p2align 12
        .skip   4096 - 7
crossing:
        mov     eax, 1
        add     eax, 0x12345678         /* 5 bytes, 3 of them beyond */
        jmp     far_cond
        .skip   4096 - 5 - 5 - 5 + 3 + 4
far_cond:
        cmp     eax, 0
        .p2align 12, 0x90
        .skip   4094, 0x90
        jne     0f                      /* ends at the end of the page */
        .skip   200, 0x90
0:      jmp     1f
        .p2align 12, 0x90
        .skip   4093, 0x90
1:      .byte   0x0f, 0x85              /* jne rel32 over the end */
        .long   2f - . - 4
        hlt
        .skip   100, 0x90
2:      jmp     3f
        .p2align 12, 0x90
        .skip   4094, 0x90
3:      nop
        call    4f                      /* begins with the last byte of a page */
        jmp     5f
4:      .byte   0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 2, 0, 0
        ret
        .p2align 12, 0x90
        .skip   4095, 0x90
5:      .byte   0xff, 0x25              /* indirect jump over the end */
#ifdef __x86_64__
        .long   pointer - . - 4
#else
        .long   pointer
#endif
        .skip   100, 0xcc
6:      jmp     back

        .data
        .p2align 4
table:  PTR     case0, case1, case2, case3
pointer:
        PTR     6b
source: .asciz  "some bytes that are moved and compared, x among them"
target: .skip   64
