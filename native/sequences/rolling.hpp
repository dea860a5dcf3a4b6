// Hashes of the sequences of blocks that lead to transfers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../common/hashing.hpp"

namespace barnum {

// what is known of the blocks of a path: arrays of the same length
struct Blocks {
    const uint64_t* bbid;
    const uint32_t* number;  // the same for blocks of one BBID
    const bool* wanted;      // transfers from here count
    size_t size;
};

// Walks along a path. The hash of a sequence is a polynomial of its blocks modulo a prime: unlike modulo 2^64,
// no sequences collide for every base. Two different sequences of L blocks have the same hash
// with a chance of L / 2^61.
class Rolling {
public:
    static constexpr size_t STRETCH = 4096;

    // a transfer that counts
    struct Transfer {
        uint32_t end;     // place of its source in the stretch
        uint32_t reach;   // length of the longest sequence that leads to it, at most `longest`
        uint32_t target;  // number of the block that it leads to
    };

    // of several parts, each has the transfers from blocks of its own
    Rolling(uint32_t longest, uint32_t part, uint32_t parts);

    // a new path. In rows, histories go on over gaps, and blocks before a gap are in no history; otherwise every
    // block is, and histories begin anew after gaps of the causes in restart bool[256]
    void begin(const Blocks& blocks, const bool* restart, bool rows);
    // takes at most STRETCH steps; returns the transfers that count, valid until the next call
    const std::vector<Transfer>& roll(const uint32_t* block, const uint8_t* gap, size_t size);

    // of the sequence of so many blocks that leads to a transfer of the stretch; never 0
    uint64_t key(const Transfer& transfer, uint32_t length) const {
        const uint64_t* end = &prefix_[longest_ + transfer.end + 1];
        // both are at most a few times the prime
        return mixed(reduced(*end + 4 * PRIME - folded(*(end - length), power_[length])) + 1);
    }
    uint32_t longest() const { return longest_; }

private:
    struct Block {
        uint64_t token;
        uint32_t number;
        uint32_t wanted;
    };

    uint32_t longest_;
    uint32_t part_, parts_;
    std::vector<uint64_t> power_;  // of the base, by exponent
    std::vector<Block> blocks_;
    bool restart_[256] = {};
    bool rows_ = false;
    bool pending_ = false;  // the last step waits for what comes after it
    uint32_t last_ = 0;
    bool last_first_ = false;
    uint32_t since_ = 0;
    std::vector<uint64_t> prefix_;  // hashes of all steps so far: `longest` before the stretch, and those in it
    size_t rolled_ = 0;             // steps of the stretch
    std::vector<Transfer> found_;
};

}  // namespace barnum
