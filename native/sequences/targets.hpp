// How many distinct targets the sequences of each length lead to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "key_set.hpp"
#include "rolling.hpp"

namespace barnum {

// the sequences of one length
class Level {
public:
    Level() : slots_(64) {}

    // whether the sequence was never followed by the target before
    bool add(uint64_t key, uint32_t target);
    void prefetch(uint64_t key) const { __builtin_prefetch(&slots_[key & (slots_.size() - 1)]); }
    // adds to counts[min(n, size) - 1] the number of sequences with n distinct targets
    void count(uint64_t* counts, size_t size) const;
    size_t bytes() const { return slots_.size() * sizeof(Slot) + further_.bytes(); }

private:
    struct Slot {
        uint64_t key = 0;  // 0: the place is free
        uint32_t target = 0;
        uint32_t targets = 0;  // distinct ones
    };

    Slot& place(uint64_t key);
    void grow();

    std::vector<Slot> slots_;
    size_t used_ = 0;
    KeySet further_;  // sequences with their targets, but for the first target of each: most have only one
};

class Targets {
public:
    // of several parts, each counts transfers from blocks of its own
    Targets(uint32_t longest, uint32_t part, uint32_t parts) : rolling_(longest, part, parts), levels_(longest) {}

    void begin(const Blocks& blocks, const bool* restart, bool rows) { rolling_.begin(blocks, restart, rows); }
    void add(const uint32_t* block, const uint8_t* gap, size_t size);
    // forgets the lengths below
    void drop_below(uint32_t length);

    uint32_t shortest() const { return shortest_; }
    uint32_t longest() const { return rolling_.longest(); }
    const Level& level(uint32_t length) const { return levels_[length - shortest_]; }
    size_t bytes() const;

private:
    void add(const Rolling::Transfer& transfer, uint64_t key);

    Rolling rolling_;
    uint32_t shortest_ = 1;
    std::vector<Level> levels_;  // by length
};

}  // namespace barnum
