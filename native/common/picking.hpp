// Which steps of a stretch of a path a pass has to look at: most are of no interest to it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace barnum {

inline size_t find_gap(const uint8_t* gap, size_t from, size_t size) {
    constexpr size_t kWords = 8;
    for (; from + 8 * kWords <= size; from += 8 * kWords) {
        uint64_t words[kWords], any = 0;
        std::memcpy(words, gap + from, sizeof words);
        for (const uint64_t word : words) any |= word;
        if (any != 0) break;
    }
    while (from < size && gap[from] == 0) ++from;
    return from;
}

// Whether turns are indices of steps, of which there are size, ascending.
inline bool are_turns(const uint32_t* turns, size_t count, size_t size) {
    if (count == 0) return true;
    bool ascending = true;
    for (size_t k = 1; k < count; ++k) ascending &= turns[k - 1] < turns[k];
    return ascending && turns[count - 1] < size;
}

// Indices of steps that lie behind a block with a role or behind a gap, ascending. The first step is always among them:
// the block before it is another stretch's.
class Picked {
public:
    // roles: of each block; every block is below their number
    void by_roles(const uint8_t* roles, const uint32_t* block, const uint8_t* gap, size_t size) {
        steps_.resize(size + 1);
        uint32_t* const steps = steps_.data();
        size_t count = 0;
        if (size != 0) steps[count++] = 0;
        // which are of interest is hard to foresee: they are listed without a branch
        for (size_t i = 1; i < size; ++i) {
            steps[count] = static_cast<uint32_t>(i);
            count += (roles[block[i - 1]] | gap[i]) != 0 ? 1 : 0;
        }
        steps_.resize(count);
    }

    // turns: indices of steps, ascending, whose block may have a role; all others have none
    void by_turns(const uint32_t* turns, size_t count, const uint8_t* gap, size_t size) {
        steps_.resize(count + 1);
        size_t to = 0;
        const auto put = [&](size_t step) {
            if (to == steps_.size()) steps_.resize(2 * to);
            steps_[to++] = static_cast<uint32_t>(step);
        };
        if (size != 0) put(0);
        // gaps are few: all turns before the next one are taken at once
        for (size_t k = 0, next = 1; next < size; ++next) {
            next = find_gap(gap, next, size);
            const auto end = static_cast<size_t>(std::lower_bound(turns + k, turns + count, next - 1) - turns);
            steps_.resize(std::max(steps_.size(), to + (end - k)));
            for (; k < end; ++k) steps_[to++] = turns[k] + 1;
            if (next >= size) break;
            put(next);
            if (k < count && turns[k] == next - 1) ++k;
        }
        steps_.resize(to);
    }

    const std::vector<uint32_t>& steps() const { return steps_; }

private:
    std::vector<uint32_t> steps_;
};

}  // namespace barnum
