// Finds the transfers of a path that are learnt, chunk by chunk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../common/picking.hpp"

namespace barnum {

// what a block does: see Learn.roles() in paths/filters.py
constexpr uint8_t LEARNT = 1;
constexpr uint8_t ENTERS_KERNEL = 2;

// transfers in order, as columns; see Transfers in paths/filters.py
struct TransferColumns {
    std::vector<uint32_t> source;
    std::vector<uint32_t> target;
    std::vector<uint64_t> position;
    std::vector<uint8_t> first;
    std::vector<int32_t> entry;

    void resize(size_t size) {
        source.resize(size);
        target.resize(size);
        position.resize(size);
        first.resize(size);
        entry.resize(size);
    }
};

// the next steps of a path; turns, where they are told: see Chunk in paths/blocks.py
struct Steps {
    const uint32_t* block;
    const uint8_t* gap;
    size_t size;
    const uint32_t* turns = nullptr;
    size_t turned = 0;
};

class TransferFilter {
public:
    // restart: of 256 causes of gaps, after which the history says nothing about what follows
    explicit TransferFilter(const bool* restart);

    // the transfers that end in the next steps of the path. Throws std::out_of_range where a step names a block
    // without a role, or turns are none; what was added before stays
    TransferColumns add(const uint8_t* roles, size_t blocks, const Steps& steps);

private:
    bool restart_[256];
    Picked picked_;
    bool begun_ = false;
    bool pending_ = true;   // whether there was a restart since the last transfer
    uint32_t last_ = 0;     // the block of the last step
    int32_t entered_ = -1;  // the last block by which the kernel was entered since the last transfer
    uint64_t position_ = 0;
};

}  // namespace barnum
