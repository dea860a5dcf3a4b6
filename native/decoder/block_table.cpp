#include "block_table.hpp"

#include <cstring>

namespace barnum {

namespace {
// real programs have some hundred thousand blocks: a trace with more than this is hostile
constexpr size_t kMaxBlocks = 8u << 20;
constexpr size_t kMaxPool = 256u << 20;

uint64_t mix(uint64_t x) {
    x ^= x >> 32;
    x *= 0x9e3779b97f4a7c15ull;
    x ^= x >> 29;
    return x;
}

uint64_t hash(uint64_t start, uint64_t last, uint32_t space, Kind kind) {
    return mix(start ^ mix(last + space * 0x100000001b3ull + static_cast<uint64_t>(kind)));
}
}  // namespace

BlockTable::BlockTable() : slots_(1024, 0) {}

size_t BlockTable::size() const {
    const std::scoped_lock lock(mutex_);
    return rows_.size();
}

std::vector<BlockTable::Row> BlockTable::rows() const {
    const std::scoped_lock lock(mutex_);
    return rows_;
}

std::vector<uint8_t> BlockTable::pool() const {
    const std::scoped_lock lock(mutex_);
    return pool_;
}

void BlockTable::grow() {
    std::vector<uint32_t> slots(slots_.size() * 2, 0);
    const size_t mask = slots.size() - 1;
    for (size_t i = 0; i < rows_.size(); ++i) {
        const Row& row = rows_[i];
        size_t at = hash(row.start, row.last, row.space, row.kind) & mask;
        while (slots[at] != 0) at = (at + 1) & mask;
        slots[at] = static_cast<uint32_t>(i + 1);
    }
    slots_.swap(slots);
}

uint32_t BlockTable::intern(const BlockShape& s) {
    const std::scoped_lock lock(mutex_);
    const size_t mask = slots_.size() - 1;
    size_t at = hash(s.start, s.last, s.space, s.kind) & mask;
    for (; slots_[at] != 0; at = (at + 1) & mask) {
        const Row& row = rows_[slots_[at] - 1];
        // code that changed keeps its number only where every instruction has kept its place
        if (row.start == s.start && row.last == s.last && row.space == s.space && row.kind == s.kind &&
            row.count == s.count && row.length == s.length &&
            (s.count == 0 || std::memcmp(pool_.data() + row.sizes, s.sizes, s.count) == 0))
            return slots_[at] - 1;
    }
    if (rows_.size() >= kMaxBlocks || pool_.size() + s.count > kMaxPool) return kNone;
    const auto id = static_cast<uint32_t>(rows_.size());
    rows_.push_back({s.start, s.last, pool_.size(), s.length, s.count, s.space, s.kind});
    if (s.count != 0) pool_.insert(pool_.end(), s.sizes, s.sizes + s.count);
    slots_[at] = id + 1;
    if (rows_.size() * 2 > slots_.size()) grow();
    return id;
}

}  // namespace barnum
