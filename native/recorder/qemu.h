/* the part of QEMU's plugin interface (versions 1 to 6: QEMU 6.0 to 10.2) that is used; declared by hand because no
   Debian package ships the header */
// clang-format Language: C
#ifndef BARNUM_QEMU_H
#define BARNUM_QEMU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct qemu_plugin_tb;
struct qemu_plugin_insn;

struct qemu_info {
    const char *target_name;
    struct {
        int min, cur;
    } version;
    bool system_emulation;
    int vcpus[2];
};

enum { NO_REGISTERS = 0, COPIES_DATA = 3, NEWEST_INTERFACE = 6 };

typedef void (*vcpu_callback)(uint64_t id, unsigned vcpu);
typedef void (*translate_callback)(uint64_t id, struct qemu_plugin_tb *tb);
typedef void (*execute_callback)(unsigned vcpu, void *data);
typedef void (*exit_callback)(uint64_t id, void *data);
typedef void (*syscall_callback)(uint64_t id, unsigned vcpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3,
                                 uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8);
typedef void (*return_callback)(uint64_t id, unsigned vcpu, int64_t number, int64_t result);

void qemu_plugin_register_vcpu_init_cb(uint64_t id, vcpu_callback callback);
void qemu_plugin_register_vcpu_exit_cb(uint64_t id, vcpu_callback callback);
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, translate_callback callback);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, execute_callback callback, int flags, void *data);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, execute_callback callback, int flags,
                                            void *data);
void qemu_plugin_register_vcpu_syscall_cb(uint64_t id, syscall_callback callback);
void qemu_plugin_register_vcpu_syscall_ret_cb(uint64_t id, return_callback callback);
void qemu_plugin_register_atexit_cb(uint64_t id, exit_callback callback, void *data);

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
/* from version 3 on it copies the bytes and returns their number; before, it takes only the first argument and returns
   a pointer to them */
uintptr_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *to, size_t size);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);

/* exported by the emulator itself, looked up when the plugin is loaded */
typedef int (*region_callback)(void *data, uint64_t start, uint64_t end, unsigned long flags);

#endif
