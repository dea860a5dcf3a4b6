#include "targets.hpp"

#include <algorithm>
#include <array>

namespace barnum {

namespace {

constexpr size_t AHEAD = 12;   // sequences whose places are fetched before they are needed
constexpr uint32_t BELOW = 8;  // lengths whose places are fetched, below one that is new

}  // namespace

Level::Slot& Level::place(uint64_t key) {
    const size_t mask = slots_.size() - 1;
    size_t i = key & mask;
    while (slots_[i].key != 0 && slots_[i].key != key) i = (i + 1) & mask;
    return slots_[i];
}

bool Level::add(uint64_t key, uint32_t target) {
    if ((used_ + 1) * 10 > slots_.size() * 7) grow();
    Slot& slot = place(key);
    if (slot.key == 0) {
        slot = {key, target, 1};
        ++used_;
        return true;
    }
    if (slot.target == target) return false;
    // told apart by 64 bits, as the sequences are
    const uint64_t both = mixed(key + (uint64_t{target} + 1) * 0x9E3779B97F4A7C15ull);
    if (!further_.add(both != 0 ? both : 1)) return false;
    ++slot.targets;
    return true;
}

void Level::grow() {
    std::vector<Slot> old(slots_.size() * 2);
    old.swap(slots_);
    for (const Slot& slot : old) {
        if (slot.key != 0) place(slot.key) = slot;
    }
}

void Level::count(uint64_t* counts, size_t size) const {
    for (const Slot& slot : slots_) {
        if (slot.key != 0) ++counts[std::min<size_t>(slot.targets, size) - 1];
    }
}

void Targets::add(const uint32_t* block, const uint8_t* gap, size_t size) {
    std::array<uint64_t, Rolling::STRETCH> keys;
    for (size_t begin = 0; begin < size; begin += Rolling::STRETCH) {
        const auto& transfers = rolling_.roll(block + begin, gap + begin, std::min(Rolling::STRETCH, size - begin));
        const auto fetch = [&](size_t row) {
            if (transfers[row].reach >= shortest_) levels_[transfers[row].reach - shortest_].prefetch(keys[row]);
        };
        for (size_t row = 0; row < transfers.size(); ++row)
            keys[row] = rolling_.key(transfers[row], transfers[row].reach);
        for (size_t row = 0; row < std::min(AHEAD, transfers.size()); ++row) fetch(row);
        for (size_t row = 0; row < transfers.size(); ++row) {
            if (row + AHEAD < transfers.size()) fetch(row + AHEAD);
            add(transfers[row], keys[row]);
        }
    }
}

// what followed a sequence has followed all its endings: the first length that knows the target is the last to ask
void Targets::add(const Rolling::Transfer& transfer, uint64_t key) {
    uint32_t length = transfer.reach;
    if (length < shortest_ || !levels_[length - shortest_].add(key, transfer.target)) return;
    // what is new at one length is mostly new at many
    std::array<uint64_t, BELOW> ahead;
    uint32_t fetched = length;
    while (length-- > shortest_) {
        for (; fetched > shortest_ && fetched + BELOW > length + 1; --fetched) {
            const uint32_t shorter = fetched - 1;
            ahead[shorter % BELOW] = rolling_.key(transfer, shorter);
            levels_[shorter - shortest_].prefetch(ahead[shorter % BELOW]);
        }
        if (!levels_[length - shortest_].add(ahead[length % BELOW], transfer.target)) return;
    }
}

void Targets::drop_below(uint32_t length) {
    const uint32_t kept = std::clamp(length, shortest_, longest());
    levels_.erase(levels_.begin(), levels_.begin() + static_cast<std::ptrdiff_t>(kept - shortest_));
    shortest_ = kept;
}

size_t Targets::bytes() const {
    size_t sum = 0;
    for (const Level& level : levels_) sum += level.bytes();
    return sum;
}

}  // namespace barnum
