#include "known.hpp"

#include <algorithm>
#include <array>

namespace barnum {

namespace {

constexpr size_t AHEAD = 16;  // sequences whose places are fetched before they are needed

}  // namespace

void Known::begin(const Blocks& blocks, const bool* restart, bool rows) {
    rolling_.begin(blocks, restart, rows);
    ++paths_;
    distinct_ = fresh_ = 0;
}

void Known::add(const uint32_t* block, const uint8_t* gap, size_t size) {
    const uint32_t length = rolling_.longest();
    std::array<uint64_t, Rolling::STRETCH> keys;
    for (size_t begin = 0; begin < size; begin += Rolling::STRETCH) {
        size_t whole = 0;
        for (const auto& transfer :
             rolling_.roll(block + begin, gap + begin, std::min(Rolling::STRETCH, size - begin))) {
            if (transfer.reach == length) keys[whole++] = rolling_.key(transfer, length);
        }
        for (size_t row = 0; row < whole; ++row) {
            if (row + AHEAD < whole) {
                const size_t next = keys[row + AHEAD] & (keys_.size() - 1);
                __builtin_prefetch(&keys_[next]);
                __builtin_prefetch(&path_[next]);
            }
            meet(keys[row]);
        }
    }
}

void Known::meet(uint64_t key) {
    if ((used_ + 1) * 10 > keys_.size() * 7) grow();
    const size_t i = place(key);
    if (keys_[i] == 0) {
        keys_[i] = key;
        ++used_;
        ++fresh_;
    } else if (path_[i] == paths_) {
        return;
    }
    path_[i] = paths_;
    ++distinct_;
}

size_t Known::place(uint64_t key) const {
    const size_t mask = keys_.size() - 1;
    size_t i = key & mask;
    while (keys_[i] != 0 && keys_[i] != key) i = (i + 1) & mask;
    return i;
}

void Known::grow() {
    std::vector<uint64_t> keys(keys_.size() * 2);
    std::vector<uint32_t> path(keys.size());
    keys.swap(keys_);
    path.swap(path_);
    for (size_t i = 0; i < keys.size(); ++i) {
        if (keys[i] == 0) continue;
        const size_t to = place(keys[i]);
        keys_[to] = keys[i];
        path_[to] = path[i];
    }
}

}  // namespace barnum
