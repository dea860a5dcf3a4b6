// Finds the canonical block at an address: libipt's own instruction decoder steps up to the first branch.
#pragma once

#include <intel-pt.h>

#include <cstdint>
#include <numeric>
#include <vector>

#include "address_space.hpp"
#include "block_table.hpp"

namespace barnum {

// how the code at the end of a block goes on
enum class Flow : uint8_t {
    broken,  // no branch was reached: code is missing or is none
    conditional,
    jump,      // to `target`, also a call of the next instruction, which calls nothing
    call,      // to `target`, and returns to `next`
    indirect,  // needs a target from the trace
    icall,     // needs a target from the trace, and returns to `next`
    ret,
    far,      // needs a target, or tracing ends here
    unready,  // not read yet, or its bytes have changed since
};

enum class Fault : uint8_t { none, unmapped, bad_instruction, too_long };

struct CodeBlock {
    uint64_t start = 0;
    uint64_t last = 0;    // address of the last instruction
    uint64_t next = 0;    // address after it; with a fault, the address that could not be read
    uint64_t target = 0;  // of a direct branch
    Kind kind = Kind::none;
    Flow flow = Flow::broken;
    Fault fault = Fault::none;
    std::vector<uint8_t> sizes;  // of the instructions, bytes

    uint32_t length() const { return std::accumulate(sizes.begin(), sizes.end(), 0u); }
};

class CodeReader {
public:
    CodeReader();
    ~CodeReader();
    CodeReader(const CodeReader&) = delete;
    CodeReader& operator=(const CodeReader&) = delete;

    void read(CodeView& view, pt_exec_mode mode, uint64_t ip, CodeBlock& block);

private:
    static int fetch(uint8_t* buffer, size_t size, const pt_asid* asid, uint64_t ip, void* self);

    // PSB, MODE.Exec, FUP, PSBEND: the least trace that lets libipt decode instructions at an address
    uint8_t trace_[16 + 2 + 9 + 2];
    pt_insn_decoder* decoder_ = nullptr;
    CodeView* view_ = nullptr;
};

}  // namespace barnum
