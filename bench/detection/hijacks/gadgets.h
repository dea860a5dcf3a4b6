/* Ends of functions as large programs have them, in one function here; small programs lack some. */
#ifndef GADGETS_H
#define GADGETS_H

#if __x86_64__
#define AX "rax"
__asm__(".text\n.type restore_state, @function\nrestore_state: .cfi_startproc\n push %" AX "\n"
        "gadget_ret: ret\n"
        "gadget_pop_ax: pop %rax\n ret\n"
        "gadget_pop_di: pop %rdi\n ret\n"
        "gadget_pop_si: pop %rsi\n ret\n"
        "gadget_pop_dx: pop %rdx\n ret\n"
        "gadget_syscall: syscall\n ret\n"
        "gadget_jump_sp: jmp *%rsp\n"
        "gadget_pivot: mov %rdi, %rsp\n pop %rax\n ret\n"
        /* jump-oriented: a table that register by register is filled from */
        "gadget_begin: mov %rdi, %rbx\n lea gadget_next(%rip), %r13\n jmp *%r13\n"
        "gadget_next: add $8, %rbx\n jmp *(%rbx)\n"
        "gadget_load_di: mov 0x40(%rbx), %rdi\n jmp *%r13\n"
        "gadget_load_si: mov 0x40(%rbx), %rsi\n jmp *%r13\n"
        "gadget_clear_dx: xor %edx, %edx\n jmp *%r13\n"
        ".cfi_endproc\n.size restore_state, .-restore_state\n");
#else
#define AX "eax"
__asm__(".text\n.type restore_state, @function\nrestore_state: .cfi_startproc\n push %" AX "\n"
        "gadget_ret: ret\n"
        "gadget_pop_ax: pop %eax\n ret\n"
        "gadget_pop_bx: pop %ebx\n ret\n"
        "gadget_pop_cx: pop %ecx\n ret\n"
        "gadget_pop_dx: pop %edx\n ret\n"
        "gadget_syscall: int $0x80\n ret\n"
        "gadget_jump_sp: jmp *%esp\n"
        "gadget_pivot: mov 4(%esp), %esp\n pop %eax\n ret\n"
        "gadget_begin: mov 4(%esp), %esi\n lea gadget_next, %edi\n jmp *%edi\n"
        "gadget_next: add $4, %esi\n jmp *(%esi)\n"
        "gadget_push: push 0x20(%esi)\n jmp *%edi\n"
        ".cfi_endproc\n.size restore_state, .-restore_state\n");
#endif

#endif
