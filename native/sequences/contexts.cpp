#include "contexts.hpp"

#include <algorithm>
#include <stdexcept>

#include "../common/hashing.hpp"

namespace barnum {

namespace {

constexpr uint64_t FACTOR = 0x9E3779B97F4A7C15ull;
constexpr size_t AHEAD = 16;  // contexts whose places are fetched before they are needed

uint32_t check_of(uint64_t key) { return static_cast<uint32_t>(key >> 32) | 1; }

uint32_t up(uint32_t count) { return count == UINT32_MAX ? count : count + 1; }

uint8_t class_of(uint32_t count) {
    // 1, 2, 3–4, 5–8, 9–16, 17–64, more
    if (count <= 2) return static_cast<uint8_t>(count - 1);
    if (count <= 4) return 2;
    if (count <= 8) return 3;
    if (count <= 16) return 4;
    return count <= 64 ? 5 : 6;
}

uint8_t purity_of(uint32_t best, uint64_t rest) {
    if (rest == 0) return 0;
    const uint64_t all = uint64_t{best} + rest;
    if (uint64_t{best} * 100 >= all * 98) return 1;
    if (uint64_t{best} * 100 >= all * 90) return 2;
    if (uint64_t{best} * 100 >= all * 75) return 3;
    return uint64_t{best} * 2 >= all ? 4 : 5;
}

struct Sure {
    uint8_t rank = 0;
    uint8_t level = 0;
    // what followed next to most often, and how sure that is where nothing before it did
    std::array<uint8_t, FURTHER> further{};
    std::array<uint8_t, FURTHER> further_level{};
};

uint8_t level_of(uint32_t count, uint64_t rest) {
    return static_cast<uint8_t>(1 + class_of(count) * 6 + purity_of(count, rest));
}

// what followed a context most often, and how sure that is, without what own has counted
Sure sure_of(uint64_t key, const Table& table, const Table* own) {
    const Followers* followers = key != 0 ? table.find(key) : nullptr;
    if (followers == nullptr) return {};
    std::array<uint32_t, 3> count = followers->count;
    uint32_t rest = followers->other;
    if (const Followers* owned = own != nullptr ? own->find(key) : nullptr) {
        for (size_t a = 0; a < 3; ++a) {
            for (size_t b = 0; b < 3; ++b) {
                if (owned->count[b] != 0 && followers->rank[a] == owned->rank[b]) {
                    count[a] -= std::min<uint32_t>(count[a], owned->count[b]);
                }
            }
        }
        rest -= std::min<uint32_t>(rest, owned->other);
    }
    // of equally frequent ones the lowest rank: which came first would reveal what own has counted
    std::array<size_t, 3> order{0, 1, 2};
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
        return count[a] != count[b] ? count[a] > count[b] : followers->rank[a] < followers->rank[b];
    });
    const size_t best = order[0];
    if (count[best] == 0) return {};
    uint64_t others = uint64_t{rest} + count[order[1]] + count[order[2]];
    Sure sure{followers->rank[best], level_of(count[best], others), {}, {}};
    for (size_t a = 0; a < FURTHER && count[order[a + 1]] != 0; ++a) {
        const size_t next = order[a + 1];
        others -= count[next];
        sure.further[a] = followers->rank[next];
        sure.further_level[a] = level_of(count[next], others);
    }
    return sure;
}

}  // namespace

void Followers::add(uint8_t value) {
    for (size_t i = 0; i < rank.size(); ++i) {
        if (count[i] == 0) {
            rank[i] = value;
            count[i] = 1;
            return;
        }
        if (rank[i] == value) {
            count[i] = up(count[i]);
            // the most frequent stays in front
            if (i > 0 && count[i] > count[i - 1]) {
                std::swap(count[i], count[i - 1]);
                std::swap(rank[i], rank[i - 1]);
            }
            return;
        }
    }
    other = up(other);
}

Table::Table() : slots_(1024), keys_(1024) {}

Followers& Table::at(uint64_t key) {
    if (used_ * 10 >= slots_.size() * 7) grow();
    const size_t mask = slots_.size() - 1;
    const uint32_t check = check_of(key);
    for (size_t i = key & mask;; i = (i + 1) & mask) {
        if (slots_[i].check == 0) {
            slots_[i].check = check;
            keys_[i] = key;
            ++used_;
            return slots_[i];
        }
        if (slots_[i].check == check) return slots_[i];
    }
}

const Followers* Table::find(uint64_t key) const {
    const size_t mask = slots_.size() - 1;
    const uint32_t check = check_of(key);
    for (size_t i = key & mask;; i = (i + 1) & mask) {
        if (slots_[i].check == 0) return nullptr;
        if (slots_[i].check == check) return &slots_[i];
    }
}

void Table::prefetch(uint64_t key) const { __builtin_prefetch(&slots_[key & (slots_.size() - 1)]); }

void Table::grow() {
    std::vector<Followers> slots(slots_.size() * 2);
    std::vector<uint64_t> keys(slots.size());
    const size_t mask = slots.size() - 1;
    for (size_t from = 0; from < slots_.size(); ++from) {
        if (slots_[from].check == 0) continue;
        size_t to = keys_[from] & mask;
        while (slots[to].check != 0) to = (to + 1) & mask;
        slots[to] = slots_[from];
        keys[to] = keys_[from];
    }
    slots_.swap(slots);
    keys_.swap(keys);
}

Contexts::Contexts(std::vector<uint32_t> lengths) : lengths_(std::move(lengths)), tables_(lengths_.size()) {
    if (lengths_.empty() || lengths_.size() > 16) throw std::invalid_argument("1 to 16 lengths of contexts");
    for (const uint32_t length : lengths_) {
        if (length < 1 || length > 1024) throw std::invalid_argument("contexts are 1 to 1024 transfers long");
    }
}

// for each wanted transfer calls visit(its number among them, keys u64[lengths]); a key is 0 where the context
// would reach back over a restart
template <typename Visit>
void Contexts::walk(const Run& run, Visit visit) const {
    const size_t lengths = lengths_.size();
    const size_t longest = *std::max_element(lengths_.begin(), lengths_.end());
    std::vector<uint64_t> power(lengths);
    for (size_t k = 0; k < lengths; ++k) {
        power[k] = 1;
        for (uint32_t i = 0; i < lengths_[k]; ++i) power[k] *= FACTOR;
    }
    // prefix[j & mask]: hash of the tokens before transfer j since the last restart
    size_t room = 1;
    while (room < longest + 1) room *= 2;
    const size_t mask = room - 1;
    std::vector<uint64_t> prefix(room);
    std::vector<uint64_t> keys(lengths);
    uint64_t hash = 0;
    size_t since = 0;
    size_t row = 0;
    for (size_t i = 0; i < run.size; ++i) {
        if (run.first[i]) {
            since = 0;
            hash = 0;
        }
        prefix[i & mask] = hash;
        if (run.wanted[i]) {
            const uint64_t site = mixed(static_cast<uint64_t>(run.site[i]) + 1);
            for (size_t k = 0; k < lengths; ++k) {
                keys[k] = 0;
                if (since >= lengths_[k]) {
                    keys[k] = mixed((hash - prefix[(i - lengths_[k]) & mask] * power[k]) ^ site) | 1;
                }
            }
            visit(row++, i, keys.data());
        }
        hash = hash * FACTOR + mixed(run.token[i] + FACTOR);
        ++since;
    }
}

void Contexts::add(const Run& run) {
    const size_t lengths = lengths_.size();
    std::vector<uint64_t> waiting(AHEAD * lengths);
    std::array<uint8_t, AHEAD> ranks{};
    size_t rows = 0;
    auto count = [&](size_t row) {
        for (size_t k = 0; k < lengths; ++k) {
            const uint64_t key = waiting[(row % AHEAD) * lengths + k];
            if (key != 0) tables_[k].at(key).add(ranks[row % AHEAD]);
        }
    };
    walk(run, [&](size_t row, size_t i, const uint64_t* keys) {
        if (row >= AHEAD) count(row - AHEAD);
        std::copy(keys, keys + lengths, &waiting[(row % AHEAD) * lengths]);
        ranks[row % AHEAD] = run.rank[i];
        for (size_t k = 0; k < lengths; ++k) tables_[k].prefetch(keys[k]);
        rows = row + 1;
    });
    for (size_t row = rows > AHEAD ? rows - AHEAD : 0; row < rows; ++row) count(row);
}

void Contexts::look_up(const Run& run, const Contexts* own, uint8_t* rank, uint8_t* level, uint8_t* further,
                       uint8_t* further_level) const {
    const size_t lengths = lengths_.size();
    std::vector<uint64_t> waiting(AHEAD * lengths);
    size_t rows = 0;
    auto resolve = [&](size_t row) {
        Sure last;
        for (size_t k = 0; k < lengths; ++k) {
            const uint64_t key = waiting[(row % AHEAD) * lengths + k];
            const Sure sure = sure_of(key, tables_[k], own != nullptr ? &own->tables_[k] : nullptr);
            rank[row * lengths + k] = sure.rank;
            level[row * lengths + k] = sure.level;
            if (sure.level != 0) last = sure;
        }
        std::copy(last.further.begin(), last.further.end(), further + row * FURTHER);
        std::copy(last.further_level.begin(), last.further_level.end(), further_level + row * FURTHER);
    };
    // keys are computed a few rows before their places are read, so that these are in the cache by then
    walk(run, [&](size_t row, size_t, const uint64_t* keys) {
        if (row >= AHEAD) resolve(row - AHEAD);
        std::copy(keys, keys + lengths, &waiting[(row % AHEAD) * lengths]);
        for (size_t k = 0; k < lengths; ++k) {
            tables_[k].prefetch(keys[k]);
            if (own != nullptr) own->tables_[k].prefetch(keys[k]);
        }
        rows = row + 1;
    });
    for (size_t row = rows > AHEAD ? rows - AHEAD : 0; row < rows; ++row) resolve(row);
}

size_t Contexts::contexts() const {
    size_t sum = 0;
    for (const Table& table : tables_) sum += table.size();
    return sum;
}

size_t Contexts::bytes() const {
    size_t sum = 0;
    for (const Table& table : tables_) sum += table.bytes();
    return sum;
}

}  // namespace barnum
