/* a block that the emulator has translated: what it is, and what is called when it is executed */
#include <string.h>

#include "recorder.h"

enum { TB_ROOM = 16 * 1024, LONGEST_INSTRUCTION = 16 };

/* bytes of `count` instructions; `last`: where the last one begins. False where the emulator does not give them */
static bool read_instructions(struct qemu_plugin_tb *tb, size_t count, uint8_t *bytes, size_t *size, size_t *last)
{
    *size = *last = 0;
    for (size_t i = 0; i < count; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        size_t length = qemu_plugin_insn_size(insn);
        if (length > LONGEST_INSTRUCTION)
            return false;
        *last = *size;
        uintptr_t data = qemu_plugin_insn_data(insn, bytes + *size, length);
        if (interface_version < COPIES_DATA)
            memcpy(bytes + *size, (const void *)data, length);
        else if (data != length)
            return false;
        *size += length;
    }
    return true;
}

/* where a block of `count` instructions ends and how it goes on, from its bytes; the last instruction begins at `last`.
   Returns how many instructions were translated */
static size_t find_end(struct block *block, size_t count, const uint8_t *bytes, size_t size, size_t last)
{
    size_t length;
    uint64_t target;
    block->kind = classify(bytes + last, size - last, block->last, &length, &target);
    /* an instruction that goes over the end of the page, in a block of several, is listed but was not translated */
    bool phantom = count > 1 && length > size - last;
    bool alone = count == 1;
    block->end = block->start + (phantom ? last : size);
    if (phantom) {
        block->kind = KIND_FALL;
        count--;
    }
    switch (block->kind) {
    case KIND_COND:
        block->bits = 1;
        block->target = target;
        block->fall = block->end;
        break;
    case KIND_DIRECT:
        block->target = target;
        break;
    case KIND_REP:
        block->target = block->last;
        block->fall = block->end;
        break;
    case KIND_FALL:
        block->fall = block->end;
        break;
    default:
        break;
    }
    block->single = alone && block->kind == KIND_FALL && block->end % PAGE != 0;
    return count;
}

static void log_instructions(struct qemu_plugin_tb *tb, const struct block *block, size_t count)
{
    uint64_t address = block->start;
    for (size_t i = 0; i < count; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        struct insn *row = code_memory(sizeof *row);
        if (!row)
            return;
        row->address = address;
        row->size = (uint32_t)qemu_plugin_insn_size(insn);
        row->branch = i + 1 == count && block->kind != KIND_FALL && block->kind != KIND_REP;
        address += row->size;
        qemu_plugin_register_vcpu_insn_exec_cb(insn, log_instruction, NO_REGISTERS, row);
    }
}

/* called for each block that is translated; the emulator lets no two threads translate at once */
void block_translated(uint64_t id, struct qemu_plugin_tb *tb)
{
    static uint8_t bytes[TB_ROOM];
    static bool placed;
    (void)id;
    if (!placed) {
        placed = true;
        guest_find();
    }
    size_t count = qemu_plugin_tb_n_insns(tb), size, last;
    if (count == 0 || count > TB_ROOM / LONGEST_INSTRUCTION || !read_instructions(tb, count, bytes, &size, &last))
        return;
    struct block block = {.start = qemu_plugin_tb_vaddr(tb), .target = NO_TARGET, .fall = NO_TARGET};
    if (!mode64)
        block.start = (uint32_t)block.start;
    block.last = block.start + last;
    if (size == 0) {
        block.kind = KIND_VSYSCALL;
        block.end = block.start + 1;
    } else {
        count = find_end(&block, count, bytes, size, last);
        block.epoch = code_bytes(block.start, bytes, size);
    }
    struct block *known = code_block(&block);
    if (!known)
        return;
    qemu_plugin_register_vcpu_tb_exec_cb(tb, stream_block, NO_REGISTERS, known);
    if (options.log)
        log_instructions(tb, &block, count);
}
