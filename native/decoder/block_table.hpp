// The distinct canonical blocks of a sample, numbered in order of first appearance.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

namespace barnum {

// what the last instruction of a block is; the numbers are part of the file format
enum class Kind : uint8_t {
    none = 0,  // no branch: the block was cut
    conditional = 1,
    jump = 2,
    indirect_jump = 3,
    call = 4,
    indirect_call = 5,
    ret = 6,
    far = 7,
    indirect_far = 8,
    unknown = 9,  // no instruction: nobody knows what code is there
};

struct BlockShape {
    uint64_t start = 0;
    uint64_t last = 0;  // address of the last instruction
    uint32_t space = 0;
    Kind kind = Kind::none;
    const uint8_t* sizes = nullptr;  // bytes of each instruction
    uint32_t count = 0;
    uint32_t length = 0;  // bytes up to the end of the last instruction
};

class BlockTable {
public:
    static constexpr uint32_t kNone = ~0u;

    BlockTable();
    // the number of the block, a new one if it was not met before; kNone when the table is full
    uint32_t intern(const BlockShape& shape);
    size_t size() const;

    struct Row {
        uint64_t start;
        uint64_t last;
        uint64_t sizes;  // place in the pool
        uint32_t length;
        uint32_t count;
        uint32_t space;
        Kind kind;
    };
    // consistent copies for readers; blocks are only ever added
    std::vector<Row> rows() const;
    std::vector<uint8_t> pool() const;

private:
    void grow();

    mutable std::mutex mutex_;
    std::vector<Row> rows_;
    std::vector<uint8_t> pool_;    // instruction sizes of all blocks
    std::vector<uint32_t> slots_;  // open addressing, number + 1
};

}  // namespace barnum
