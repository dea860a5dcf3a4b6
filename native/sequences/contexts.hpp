// Counts of what followed each context of several lengths, and how surely it follows again.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../common/levels.hpp"

namespace barnum {

// what followed one context: its first three ranks, the most frequent in front, and how often anything else did
struct Followers {
    uint32_t check = 0;  // 0: the place is free
    std::array<uint32_t, 3> count{};
    uint32_t other = 0;
    std::array<uint8_t, 3> rank{};
    uint8_t unused = 0;

    void add(uint8_t value);
};

// an open-addressing table from the hash of a context to its followers; grows as it fills
class Table {
public:
    Table();
    Followers& at(uint64_t key);
    const Followers* find(uint64_t key) const;
    void prefetch(uint64_t key) const;
    size_t size() const { return used_; }
    size_t bytes() const { return slots_.size() * sizeof(Followers); }

private:
    void grow();

    std::vector<Followers> slots_;
    std::vector<uint64_t> keys_;  // needed to grow
    size_t used_ = 0;
};

// transfers of one run, or of a stretch of one: arrays of the same length
struct Run {
    const int32_t* site;    // where the transfer starts
    const uint64_t* token;  // what stands for the transfer in the contexts of those after it
    const uint8_t* rank;    // which of the site's targets was taken
    const bool* first;      // no context reaches back over this transfer
    const bool* wanted;     // the others are only context
    size_t size;
};

class Contexts {
public:
    explicit Contexts(std::vector<uint32_t> lengths);

    void add(const Run& run);
    // one row for each wanted transfer: rank u8[lengths] that followed most often, level u8[lengths] of how sure that
    // is (0: never met); of the longest context that was met, the ranks that followed next to most often,
    // u8[FURTHER], and how sure each is where those before it did not (0: nothing else followed), u8[FURTHER].
    // Counts of own, where it is given, are left out
    void look_up(const Run& run, const Contexts* own, uint8_t* rank, uint8_t* level, uint8_t* further,
                 uint8_t* further_level) const;

    size_t contexts() const;
    size_t bytes() const;
    const std::vector<uint32_t>& lengths() const { return lengths_; }

private:
    template <typename Visit>
    void walk(const Run& run, Visit visit) const;

    std::vector<uint32_t> lengths_;
    std::vector<Table> tables_;
};

}  // namespace barnum
