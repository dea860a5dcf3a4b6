// Which sequences of one length were met in earlier paths.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "rolling.hpp"

namespace barnum {

class Known {
public:
    explicit Known(uint32_t length) : rolling_(length, 0, 1), keys_(1024), path_(1024) {}

    // a new path: what was met so far is known from now on
    void begin(const Blocks& blocks, const bool* restart, bool rows);
    void add(const uint32_t* block, const uint8_t* gap, size_t size);

    // of the path: its distinct sequences, and those of them that no earlier path has
    uint64_t distinct() const { return distinct_; }
    uint64_t fresh() const { return fresh_; }
    size_t bytes() const { return keys_.size() * (sizeof(uint64_t) + sizeof(uint32_t)); }

private:
    void meet(uint64_t key);
    size_t place(uint64_t key) const;
    void grow();

    Rolling rolling_;
    std::vector<uint64_t> keys_;  // 0: the place is free
    std::vector<uint32_t> path_;  // the last one with the sequence
    uint32_t paths_ = 0;
    uint64_t used_ = 0;
    uint64_t distinct_ = 0;
    uint64_t fresh_ = 0;
};

}  // namespace barnum
