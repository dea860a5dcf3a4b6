// Which steps of a stretch of a path a pass has to look at: most are of no interest to it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace barnum {

inline size_t find_gap(const uint8_t* gap, size_t from, size_t size) {
    for (; from + 8 <= size; from += 8) {
        uint64_t eight = 0;
        std::memcpy(&eight, gap + from, 8);
        if (eight != 0) break;
    }
    while (from < size && gap[from] == 0) ++from;
    return from;
}

// Visits the first step, and all behind a turn or a gap, ascending. turns: indices of steps, ascending, whose block may
// have a role; all others have none.
template <typename Visit>
void by_turns(const uint32_t* turns, size_t count, const uint8_t* gap, size_t size, Visit visit) {
    if (size == 0) return;
    visit(size_t{0});
    size_t next_gap = find_gap(gap, 1, size);
    for (size_t k = 0; k < count; ++k) {
        const size_t step = size_t{turns[k]} + 1;
        for (; next_gap < step; next_gap = find_gap(gap, next_gap + 1, size)) visit(next_gap);
        if (next_gap == step) next_gap = find_gap(gap, next_gap + 1, size);
        if (step < size) visit(step);
    }
    for (; next_gap < size; next_gap = find_gap(gap, next_gap + 1, size)) visit(next_gap);
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

    // see by_turns()
    void by_turns(const uint32_t* turns, size_t count, const uint8_t* gap, size_t size) {
        steps_.resize(count + 1);
        size_t to = 0;
        barnum::by_turns(turns, count, gap, size, [&](size_t step) {
            if (to == steps_.size()) steps_.resize(2 * to);
            steps_[to++] = static_cast<uint32_t>(step);
        });
        steps_.resize(to);
    }

    const std::vector<uint32_t>& steps() const { return steps_; }

private:
    std::vector<uint32_t> steps_;
};

}  // namespace barnum
