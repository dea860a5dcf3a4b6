#include "code_reader.hpp"

#include <cstring>
#include <new>
#include <stdexcept>

namespace barnum {

namespace {

// no program has longer runs without a branch: bounds the work that one hostile packet can cause
constexpr size_t kMaxInstructions = 1 << 16;

bool is_prefix(uint8_t byte, pt_exec_mode mode) {
    switch (byte) {
            // clang-format off
        case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65:
        case 0x66: case 0x67: case 0xf0: case 0xf2: case 0xf3:
            // clang-format on
            return true;
        default:
            return mode == ptem_64bit && (byte & 0xf0) == 0x40;  // rex
    }
}

int64_t signed_bytes(const uint8_t* p, int n) {
    uint64_t value = 0;
    for (int i = 0; i < n; ++i) value |= static_cast<uint64_t>(p[i]) << (8 * i);
    const int shift = 64 - 8 * n;
    return static_cast<int64_t>(value << shift) >> shift;
}

struct Branch {
    bool direct = false;
    bool far_indirect = false;
    int displacement_size = 0;
};

// libipt gives the class of an instruction, but not whether a branch is direct: that is in its opcode
Branch branch_of(const pt_insn& insn) {
    Branch branch;
    int at = 0;
    while (at < insn.size && is_prefix(insn.raw[at], insn.mode)) ++at;
    if (at >= insn.size) return branch;
    const uint8_t opcode = insn.raw[at++];
    const bool two = opcode == 0x0f && at < insn.size;
    const uint8_t second = two ? insn.raw[at++] : 0;
    switch (opcode) {
            // clang-format off
        case 0xe8: case 0xe9: case 0xeb:
        case 0xe0: case 0xe1: case 0xe2: case 0xe3:
            // clang-format on
            branch.direct = true;
            break;
        case 0x0f:
            branch.direct = two && (second & 0xf0) == 0x80;
            break;
        case 0xff: {
            const int reg = at < insn.size ? (insn.raw[at] >> 3) & 7 : 0;
            branch.far_indirect = reg == 3 || reg == 5;
            break;
        }
        default:
            branch.direct = (opcode & 0xf0) == 0x70;
            break;
    }
    if (branch.direct) branch.displacement_size = insn.size - at;
    return branch;
}

void classify(const pt_insn& insn, CodeBlock& block) {
    const Branch branch = branch_of(insn);
    uint64_t target = block.next;
    if (branch.direct && branch.displacement_size > 0 && branch.displacement_size <= 8) {
        target += static_cast<uint64_t>(
            signed_bytes(insn.raw + insn.size - branch.displacement_size, branch.displacement_size));
        if (insn.mode != ptem_64bit) target &= branch.displacement_size == 2 ? 0xffffull : 0xffffffffull;
    }
    block.target = target;
    switch (insn.iclass) {
        case ptic_cond_jump:
            block.kind = Kind::conditional;
            block.flow = Flow::conditional;
            break;
        case ptic_jump:
            block.kind = branch.direct ? Kind::jump : Kind::indirect_jump;
            block.flow = branch.direct ? Flow::jump : Flow::indirect;
            break;
        case ptic_call:
            block.kind = branch.direct ? Kind::call : Kind::indirect_call;
            // code calls its next instruction to get its own address, and never returns there
            block.flow = !branch.direct ? Flow::icall : target == block.next ? Flow::jump : Flow::call;
            break;
        case ptic_return:
            block.kind = Kind::ret;
            block.flow = Flow::ret;
            break;
        default:
            block.kind = branch.far_indirect ? Kind::indirect_far : Kind::far;
            block.flow = Flow::far;
            break;
    }
}

}  // namespace

CodeReader::CodeReader() {
    uint8_t* p = trace_;
    for (int i = 0; i < 8; ++i) {
        *p++ = 0x02;
        *p++ = 0x82;
    }
    *p++ = 0x99;  // MODE.Exec
    *p++ = 0x01;
    *p++ = 0xdd;  // FUP with a full address
    p += 8;
    *p++ = 0x02;  // PSBEND
    *p++ = 0x23;

    pt_config config;
    pt_config_init(&config);
    config.begin = trace_;
    config.end = trace_ + sizeof(trace_);
    decoder_ = pt_insn_alloc_decoder(&config);
    if (decoder_ == nullptr) throw std::bad_alloc();
    if (pt_image_set_callback(pt_insn_get_image(decoder_), fetch, this) < 0) {
        pt_insn_free_decoder(decoder_);
        throw std::runtime_error("libipt refuses a memory callback");
    }
}

CodeReader::~CodeReader() { pt_insn_free_decoder(decoder_); }

int CodeReader::fetch(uint8_t* buffer, size_t size, const pt_asid*, uint64_t ip, void* self) {
    const size_t n = static_cast<CodeReader*>(self)->view_->read(ip, buffer, size);
    return n == 0 ? -pte_nomap : static_cast<int>(n);
}

void CodeReader::read(CodeView& view, pt_exec_mode mode, uint64_t ip, CodeBlock& block) {
    block.start = block.last = block.next = ip;
    block.target = 0;
    block.kind = Kind::none;
    block.flow = Flow::broken;
    block.fault = Fault::unmapped;
    block.sizes.clear();
    view_ = &view;

    trace_[17] = mode == ptem_64bit ? 0x01 : mode == ptem_32bit ? 0x02 : 0x00;
    std::memcpy(trace_ + 19, &ip, sizeof(ip));
    int status = pt_insn_sync_set(decoder_, 0);
    while (status >= 0 && (status & pts_event_pending) != 0) {
        pt_event event;
        status = pt_insn_event(decoder_, &event, sizeof(event));
    }
    while (status >= 0) {
        pt_insn insn;
        status = pt_insn_next(decoder_, &insn, sizeof(insn));
        // the branch itself is known before libipt finds that the trace does not say where it goes
        if (insn.iclass == ptic_error || insn.size == 0) {
            block.fault = status == -pte_nomap ? Fault::unmapped : Fault::bad_instruction;
            return;
        }
        block.last = insn.ip;
        block.next = insn.ip + insn.size;
        if (mode != ptem_64bit) block.next &= 0xffffffffull;
        block.sizes.push_back(insn.size);
        if (insn.iclass != ptic_other && insn.iclass != ptic_ptwrite) {
            block.fault = Fault::none;
            classify(insn, block);
            return;
        }
        if (block.sizes.size() >= kMaxInstructions) {
            block.fault = Fault::too_long;
            return;
        }
    }
}

}  // namespace barnum
