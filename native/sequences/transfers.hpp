// Finds the transfers of a path that are learnt, chunk by chunk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../common/picking.hpp"
#include "edges.hpp"

namespace barnum {

// what a block does: see Learn.roles() in paths/filters.py
constexpr uint8_t LEARNT = 1;
constexpr uint8_t ENTERS_KERNEL = 2;

// transfers in order, as columns of which the first `count` rows count; see Transfers in paths/filters.py
struct TransferColumns {
    size_t count = 0;
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
    // the same into columns that are there, which may be longer
    void add(const uint8_t* roles, size_t blocks, const Steps& steps, TransferColumns& found);

private:
    bool restart_[256];
    Picked picked_;
    bool begun_ = false;
    bool pending_ = true;   // whether there was a restart since the last transfer
    uint32_t last_ = 0;     // the block of the last step
    int32_t entered_ = -1;  // the last block by which the kernel was entered since the last transfer
    uint64_t position_ = 0;
};

// finds the transfers of a path and counts them, without columns in between
class TransferCounter {
public:
    explicit TransferCounter(const bool* restart) : filter_(restart) {}

    // see TransferFilter::add() and EdgeCounter::add(); the table has all blocks that have a role. The transfers are
    // there until the next ones are added
    const TransferColumns& add(const uint8_t* roles, const BlockTable& blocks, const Steps& steps);
    // after the last steps
    RunCounts done() { return counter_.done(); }

private:
    TransferFilter filter_;
    EdgeCounter counter_;
    TransferColumns found_;
};

}  // namespace barnum
