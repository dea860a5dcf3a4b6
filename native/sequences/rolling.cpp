#include "rolling.hpp"

#include <algorithm>
#include <stdexcept>

namespace barnum {

namespace {

// below 2^60, so that sums of products stay in 128 bits
constexpr uint64_t BASE = 0x0B7E151628AED2A6ull;

}  // namespace

Rolling::Rolling(uint32_t longest, uint32_t part, uint32_t parts)
    : longest_(longest), part_(part), parts_(parts), power_(longest + 1), prefix_(longest + STRETCH + 2) {
    power_[0] = 1;
    for (uint32_t i = 1; i <= longest; ++i) power_[i] = reduced(folded(power_[i - 1], BASE));
}

void Rolling::begin(const Blocks& blocks, const bool* restart, bool rows) {
    blocks_.resize(blocks.size);
    for (size_t i = 0; i < blocks.size; ++i) {
        const uint64_t token = mixed(blocks.bbid[i] + 1) % PRIME;
        const bool ours = parts_ == 1 || mixed(token) % parts_ == part_;
        blocks_[i] = {token, blocks.number[i], blocks.wanted[i] && ours};
    }
    std::copy(restart, restart + 256, restart_);
    rows_ = rows;
    pending_ = last_first_ = false;
    since_ = 0;
    std::fill(prefix_.begin(), prefix_.end(), 0);
    rolled_ = 0;
}

const std::vector<Rolling::Transfer>& Rolling::roll(const uint32_t* block, const uint8_t* gap, size_t size) {
    // the hashes before this stretch are the last ones of the stretch before
    std::copy(prefix_.begin() + rolled_, prefix_.begin() + rolled_ + longest_ + 1, prefix_.begin());
    found_.resize(size);
    uint64_t* out = &prefix_[longest_];
    size_t found = 0;
    uint32_t steps = 0;
    for (size_t i = 0; i < size; ++i) {
        const uint32_t next = block[i];
        if (next >= blocks_.size()) throw std::out_of_range("a step names a block that the path lacks");
        const bool joined = gap[i] == 0;
        if (pending_ && (joined || !rows_)) {
            const Block& source = blocks_[last_];
            if (last_first_) since_ = 0;
            since_ = std::min(since_ + 1, longest_);
            out[steps + 1] = folded(out[steps], BASE, source.token);
            // written in any case: whether it counts is hard for the processor to predict
            found_[found] = {steps, since_, blocks_[next].number};
            found += source.wanted & static_cast<uint32_t>(joined);
            ++steps;
        }
        pending_ = true;
        last_ = next;
        last_first_ = !rows_ && restart_[gap[i]];
    }
    rolled_ = steps;
    found_.resize(found);
    return found_;
}

}  // namespace barnum
