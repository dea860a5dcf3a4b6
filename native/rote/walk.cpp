#include "rote.hpp"

#include <algorithm>
#include <bit>
#include <stdexcept>

namespace barnum {

namespace {

// transfers among which equal ones are looked for at once: the table of their groups stays in the cache
constexpr size_t BATCH = 1 << 16;

// any number will do, so long as all models have the same
constexpr uint64_t BASE = 0x0E3779B97F4A7C15ull;

uint32_t checked(uint32_t longest) {
    if (longest > LONGEST) throw std::invalid_argument("contexts are too long");
    return longest;
}

}  // namespace

Walk::Walk(uint32_t longest) : longest_(checked(longest)), power_(longest + 1, 1), prefix_(longest + 1, 0) {
    for (size_t i = 1; i < power_.size(); ++i) power_[i] = reduced(folded(power_[i - 1], BASE));
}

void Walk::roll(const Transfers& transfers) {
    // what was rolled before is history
    prefix_.erase(prefix_.begin(), prefix_.end() - (longest_ + 1));
    prefix_.reserve(prefix_.size() + transfers.size);
    grouped_ = false;
    place_.clear();
    place_.reserve(transfers.size);
    for (size_t i = 0; i < transfers.size; ++i) {
        const uint64_t site = mixed(transfers.site_token[transfers.source[i]] + BASE);
        const uint64_t target = transfers.target_token[transfers.target[i]];
        if (transfers.first[i]) since_ = 0;
        place_.push_back({site, target, since_});
        if (since_ < longest_) ++since_;
        prefix_.push_back(reduced(folded(prefix_.back(), BASE, mixed(site + target) >> 4)));
    }
}

const std::vector<Walk::Group>& Walk::groups() {
    if (grouped_) return groups_;
    groups_.clear();
    struct Slot {
        uint64_t key = 0;
        size_t group = 0;
    };
    const size_t mask = 2 * std::bit_ceil(std::min(BATCH, size() + 1)) - 1;
    std::vector<Slot> slots;
    for (size_t i = 0; i < size(); ++i) {
        if (i % BATCH == 0) slots.assign(mask + 1, {});
        if (place_[i].reach < longest_) {
            groups_.push_back({i, 1});
            continue;
        }
        const uint64_t key = this->key(i, longest_);
        size_t at = secret_place(key ^ place_[i].target, mask);
        while (slots[at].key != 0 &&
               (slots[at].key != key || place_[groups_[slots[at].group].at].target != place_[i].target)) {
            at = (at + 1) & mask;
        }
        if (slots[at].key == 0) {
            slots[at] = {key, groups_.size()};
            groups_.push_back({i, 0});
        }
        ++groups_[slots[at].group].times;
    }
    grouped_ = true;
    return groups_;
}

uint64_t Walk::key(size_t at, uint32_t length) const {
    const uint64_t* end = &prefix_[longest_ + at];
    const uint64_t window = reduced(*end + 4 * PRIME - folded(*(end - length), power_[length]));
    const uint64_t key = mixed(place_[at].site ^ mixed(window + (uint64_t{length} << 61)));
    return key + (key == 0);
}

}  // namespace barnum
