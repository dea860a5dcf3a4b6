// Counts the distinct transfers (edges) of a run, and the ways by which they led into the kernel.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../common/hashing.hpp"

namespace barnum {

// how many transfers before an entry into the kernel count as those that led to it
constexpr size_t REACH = 64;
// a run is kept as STRETCHES to 2 * STRETCHES stretches, of at least SHORTEST transfers each
constexpr size_t STRETCHES = 16;
constexpr size_t SHORTEST = size_t{1} << 10;

// numbers keys in the order in which they come: open addressing, grows as it fills
class Numbers {
public:
    static constexpr uint32_t NONE = UINT32_MAX;

    Numbers() : slots_(64) {}

    // a key that is new gets the next number
    uint32_t operator()(uint64_t key) {
        for (size_t at = place(key);; at = (at + 1) & (slots_.size() - 1)) {
            if (slots_[at].number == NONE) return added(at, key);
            if (slots_[at].key == key) return slots_[at].number;
        }
    }
    // NONE: it has none
    uint32_t find(uint64_t key) const {
        for (size_t at = place(key);; at = (at + 1) & (slots_.size() - 1)) {
            if (slots_[at].number == NONE || slots_[at].key == key) return slots_[at].number;
        }
    }
    void prefetch(uint64_t key) const { __builtin_prefetch(&slots_[place(key)]); }
    size_t size() const { return used_; }

private:
    struct Slot {
        uint64_t key = 0;
        uint32_t number = NONE;
    };

    size_t place(uint64_t key) const { return secret_place(key, slots_.size() - 1); }
    uint32_t added(size_t at, uint64_t key);

    std::vector<Slot> slots_;
    size_t used_ = 0;
};

// distinct values, ascending, and the place of each value among them
struct Distinct {
    std::vector<uint64_t> values;
    std::vector<int64_t> place;
};
Distinct distinct(const uint64_t* values, size_t size);

// of each value the place of the first of count ascending known ones that is not less
std::vector<int64_t> places_of(const uint64_t* known, size_t count, const uint64_t* values, size_t size);

// a table of blocks: the token of each as a source and as a target, and its kind
struct BlockTable {
    const uint64_t* site;
    const uint64_t* target;
    const uint8_t* kind;
    size_t size;
};

// the next transfers of a run, as blocks of the table
struct EdgePart {
    const uint32_t* source;
    const uint32_t* target;
    const uint8_t* first;  // nothing leads over this transfer
    const int32_t* entry;  // the block by which the kernel was entered before it, or less than 0
    size_t size;
    const uint64_t* position = nullptr;  // the step of the path at which it ends, where that is to be kept
};

// rows of edges, sorted by (site, target)
struct EdgeColumns {
    explicit EdgeColumns(size_t size) : site(size), target(size), kind(size), count(size), first(size) {}
    std::vector<uint64_t> site;
    std::vector<uint64_t> target;
    std::vector<uint8_t> kind;
    std::vector<int64_t> count;
    std::vector<int64_t> first;
};

// rows of ways into the kernel, sorted by (site, target, entry)
struct WayColumns {
    explicit WayColumns(size_t size) : site(size), target(size), entry(size), first(size) {}
    std::vector<uint64_t> site;
    std::vector<uint64_t> target;
    std::vector<uint64_t> entry;
    std::vector<int64_t> first;
};

// of a whole run, and of its stretches one after the other: how many transfers and rows each has
struct RunCounts {
    EdgeColumns whole{0};
    WayColumns ways{0};
    EdgeColumns edges_of_stretches{0};
    WayColumns ways_of_stretches{0};
    std::vector<int64_t> transfers;
    std::vector<int64_t> edges;
    std::vector<int64_t> entered;
    std::vector<uint64_t> steps;  // of each edge of the whole: at which step it ended first
};

// Memory grows with what is distinct, not with the length of the run.
class EdgeCounter {
public:
    // all parts of a run number the same blocks. Throws std::out_of_range where a transfer names a block that is
    // not in the table; nothing of the part is counted then
    void add(const BlockTable& blocks, const EdgePart& part);
    // the same of transfers whose blocks are all in the table
    void add_checked(const BlockTable& blocks, const EdgePart& part);
    // after the last part
    RunCounts done();

private:
    struct Pair {  // of blocks
        uint64_t key;
        int64_t first;
        int64_t count;  // in the stretch
        uint32_t edge;
        uint8_t kind;
        bool used = false;
    };
    static_assert(sizeof(Pair) == 32, "two of them lie in a line of the cache");
    struct Edge {
        uint32_t site;
        uint32_t target;
        uint64_t step;
    };
    struct Way {
        uint32_t edge;
        uint32_t entry;  // number of a site
        int64_t first;   // -1: not in the stretch
    };
    struct EdgeRow {
        uint32_t edge;
        uint8_t kind;
        int64_t count;
        int64_t first;
    };
    struct WayRow {
        uint32_t way;
        int64_t first;
    };
    struct Stretch {
        std::vector<EdgeRow> edges;
        std::vector<WayRow> ways;
        int64_t transfers;
    };

    void count(const BlockTable& blocks, const EdgePart& part, size_t begin, size_t end);
    size_t pair_place(uint64_t key) const { return secret_place(key, pairs_.size() - 1); }
    size_t free_place(uint64_t key) const;
    size_t new_pair(const BlockTable& blocks, const EdgePart& part, size_t at, uint64_t key);
    void enter(uint64_t token);
    void take();
    void halve();
    void sorted_edges(RunCounts& counts, const std::vector<uint32_t>& rank) const;
    void sorted_ways(RunCounts& counts, const std::vector<uint32_t>& rank) const;

    Numbers site_numbers_, target_numbers_, edge_numbers_, way_numbers_;
    // open addressing, grows as it fills: what is counted lies where it is found
    std::vector<Pair> pairs_{64};
    size_t used_ = 0;
    std::vector<uint64_t> sites_;  // tokens
    std::vector<uint64_t> targets_;
    std::vector<Edge> edges_;
    std::vector<Way> ways_;
    std::vector<int64_t> entered_;  // the last transfer before which the kernel was entered at each site
    // of the stretch
    std::vector<uint64_t> met_;  // keys of pairs
    std::vector<uint32_t> led_;  // ways
    std::vector<uint32_t> row_;  // of each edge, or of each way, while rows are added up
    std::vector<Stretch> stretches_;
    std::array<uint32_t, REACH> last_{};  // the edge of transfer i at i % REACH
    int64_t total_ = 0;                   // transfers so far
    int64_t begin_ = 0;                   // of the stretch
    int64_t restart_ = 0;                 // the last transfer over which nothing leads
    int64_t length_ = SHORTEST;           // of stretches
};

}  // namespace barnum
