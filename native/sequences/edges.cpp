#include "edges.hpp"

#include <algorithm>
#include <numeric>
#include <stdexcept>

namespace barnum {

namespace {

constexpr size_t AHEAD = 16;  // pairs whose places are fetched before they are needed

uint64_t both(uint32_t upper, uint32_t lower) { return (uint64_t{upper} << 32) | lower; }

// the place of each key among all of them, ascending; no two are equal
std::vector<uint32_t> ranks(const std::vector<uint64_t>& keys) {
    std::vector<std::pair<uint64_t, uint32_t>> order(keys.size());
    for (size_t i = 0; i < keys.size(); ++i) order[i] = {keys[i], static_cast<uint32_t>(i)};
    std::sort(order.begin(), order.end());
    std::vector<uint32_t> rank(keys.size());
    for (size_t i = 0; i < order.size(); ++i) rank[order[i].second] = static_cast<uint32_t>(i);
    return rank;
}

// a row of a stretch
struct Place {
    uint32_t stretch;
    uint32_t row;
};

// the rows of all stretches by rank, those of one rank by stretch
template <typename Stretches, typename Rows, typename Rank>
std::vector<Place> sorted(const Stretches& stretches, size_t ranks, Rows rows, Rank rank) {
    std::vector<size_t> begin(ranks + 1);
    for (const auto& stretch : stretches) {
        for (const auto& row : rows(stretch)) ++begin[rank(row) + 1];
    }
    std::partial_sum(begin.begin(), begin.end(), begin.begin());
    std::vector<Place> places(begin.back());
    for (uint32_t i = 0; i < stretches.size(); ++i) {
        uint32_t number = 0;
        for (const auto& row : rows(stretches[i])) places[begin[rank(row)]++] = {i, number++};
    }
    return places;
}

// where the rows of each stretch begin
template <typename Stretches, typename Rows>
std::vector<size_t> begins(const Stretches& stretches, Rows rows) {
    std::vector<size_t> begin(1);
    for (const auto& stretch : stretches) begin.push_back(begin.back() + rows(stretch).size());
    return begin;
}

}  // namespace

uint32_t Numbers::added(size_t at, uint64_t key) {
    if (used_ >= NONE) throw std::length_error("too many distinct transfers");
    if ((used_ + 1) * 2 > slots_.size()) {
        std::vector<Slot> old(slots_.size() * 2);
        old.swap(slots_);
        const auto free = [&](uint64_t wanted) {
            size_t to = place(wanted);
            while (slots_[to].number != NONE) to = (to + 1) & (slots_.size() - 1);
            return to;
        };
        for (const Slot& slot : old) {
            if (slot.number != NONE) slots_[free(slot.key)] = slot;
        }
        at = free(key);
    }
    slots_[at] = {key, static_cast<uint32_t>(used_)};
    return static_cast<uint32_t>(used_++);
}

Distinct distinct(const uint64_t* values, size_t size) {
    Numbers numbers;
    std::vector<uint64_t> met;
    Distinct result;
    result.place.resize(size);
    for (size_t i = 0; i < size; ++i) {
        const uint32_t number = numbers(values[i]);
        if (number == met.size()) met.push_back(values[i]);
        result.place[i] = number;
    }
    const std::vector<uint32_t> rank = ranks(met);
    result.values.resize(met.size());
    for (size_t i = 0; i < met.size(); ++i) result.values[rank[i]] = met[i];
    for (int64_t& place : result.place) place = rank[static_cast<size_t>(place)];
    return result;
}

std::vector<int64_t> places_of(const uint64_t* known, size_t count, const uint64_t* values, size_t size) {
    Numbers numbers;
    std::vector<int64_t> first;
    for (size_t i = 0; i < count; ++i) {
        if (numbers(known[i]) == first.size()) first.push_back(static_cast<int64_t>(i));
    }
    std::vector<int64_t> place(size);
    for (size_t i = 0; i < size; ++i) {
        const uint32_t number = numbers.find(values[i]);
        place[i] = number != Numbers::NONE ? first[number] : std::lower_bound(known, known + count, values[i]) - known;
    }
    return place;
}

void EdgeCounter::add(const BlockTable& blocks, const EdgePart& part) {
    uint32_t highest = 0;
    for (size_t i = 0; i < part.size; ++i) {
        const auto entry = static_cast<uint32_t>(std::max(part.entry[i], 0));
        highest = std::max(highest, std::max(std::max(part.source[i], part.target[i]), entry));
    }
    if (part.size != 0 && highest >= blocks.size) {
        throw std::out_of_range("a transfer names a block that is not in the table");
    }
    add_checked(blocks, part);
}

void EdgeCounter::add_checked(const BlockTable& blocks, const EdgePart& part) {
    if (total_ == 0) {
        // stretches that would be joined before this part ends are counted as one
        while (part.size >= 2 * STRETCHES * static_cast<size_t>(length_)) length_ *= 2;
    }
    for (size_t at = 0; at < part.size;) {
        const auto room = static_cast<size_t>(length_ - (total_ - begin_));
        const size_t end = std::min(part.size, at + room);
        count(blocks, part, at, end);
        at = end;
        if (total_ - begin_ < length_) continue;
        take();
        if (stretches_.size() == 2 * STRETCHES) halve();
    }
}

void EdgeCounter::count(const BlockTable& blocks, const EdgePart& part, size_t begin, size_t end) {
    const auto key_of = [&](size_t i) { return both(part.source[i], part.target[i]); };
    const auto prefetch = [&](size_t i) { __builtin_prefetch(&pairs_[pair_place(key_of(i))], 1); };
    for (size_t i = begin; i < std::min(begin + AHEAD, end); ++i) prefetch(i);
    for (size_t i = begin; i < end; ++i, ++total_) {
        if (i + AHEAD < end) prefetch(i + AHEAD);
        const uint64_t key = key_of(i);
        size_t at = pair_place(key);
        while (pairs_[at].used && pairs_[at].key != key) at = (at + 1) & (pairs_.size() - 1);
        if (!pairs_[at].used) at = new_pair(blocks, part, i, key);
        Pair& pair = pairs_[at];
        if (pair.count++ == 0) {
            pair.first = total_;
            met_.push_back(key);
        }
        if (part.first[i] != 0) restart_ = total_;
        if (part.entry[i] >= 0) enter(blocks.site[part.entry[i]]);
        last_[total_ % REACH] = pair.edge;
    }
}

size_t EdgeCounter::free_place(uint64_t key) const {
    size_t at = pair_place(key);
    while (pairs_[at].used) at = (at + 1) & (pairs_.size() - 1);
    return at;
}

// where it is
size_t EdgeCounter::new_pair(const BlockTable& blocks, const EdgePart& part, size_t at, uint64_t key) {
    const uint32_t source = part.source[at], target = part.target[at];
    const uint32_t site = site_numbers_(blocks.site[source]);
    if (site == sites_.size()) sites_.push_back(blocks.site[source]);
    const uint32_t reached = target_numbers_(blocks.target[target]);
    if (reached == targets_.size()) targets_.push_back(blocks.target[target]);
    const uint32_t edge = edge_numbers_(both(site, reached));
    if (edge == edges_.size()) {
        edges_.push_back({site, reached, part.position != nullptr ? part.position[at] : 0});
    }
    if ((used_ + 1) * 2 > pairs_.size()) {
        std::vector<Pair> old(pairs_.size() * 2);
        old.swap(pairs_);
        for (const Pair& pair : old) {
            if (pair.used) pairs_[free_place(pair.key)] = pair;
        }
    }
    ++used_;
    const size_t to = free_place(key);
    pairs_[to] = {key, 0, 0, edge, blocks.kind[source], true};
    return to;
}

void EdgeCounter::enter(uint64_t token) {
    const uint32_t entry = site_numbers_(token);
    if (entry == sites_.size()) sites_.push_back(token);
    if (entered_.size() < sites_.size()) entered_.resize(sites_.size(), -1);
    int64_t from = std::max(restart_, total_ - static_cast<int64_t>(REACH));
    // what led there before the last entry at the same site is known already, within the stretch
    if (entered_[entry] >= begin_) from = std::max(from, entered_[entry]);
    entered_[entry] = total_;
    for (int64_t at = from; at < total_; ++at) {
        const uint32_t edge = last_[static_cast<size_t>(at) % REACH];
        const uint32_t number = way_numbers_(both(edge, entry));
        if (number == ways_.size()) ways_.push_back({edge, entry, -1});
        if (ways_[number].first >= 0) continue;
        ways_[number].first = total_;
        led_.push_back(number);
    }
}

void EdgeCounter::take() {
    Stretch& stretch = stretches_.emplace_back();
    stretch.transfers = total_ - begin_;
    row_.resize(std::max(edges_.size(), ways_.size()), Numbers::NONE);
    stretch.edges.reserve(met_.size());
    std::vector<uint64_t> least;  // of the pairs that make up one edge, the least key: it decides the kind
    for (const uint64_t key : met_) {
        size_t place = pair_place(key);
        while (pairs_[place].key != key || !pairs_[place].used) place = (place + 1) & (pairs_.size() - 1);
        Pair& pair = pairs_[place];
        uint32_t& at = row_[pair.edge];
        if (at == Numbers::NONE) {
            at = static_cast<uint32_t>(stretch.edges.size());
            stretch.edges.push_back({pair.edge, pair.kind, pair.count, pair.first});
            least.push_back(pair.key);
        } else {
            EdgeRow& row = stretch.edges[at];
            row.count += pair.count;
            if (pair.key < least[at]) {
                row.kind = pair.kind;
                least[at] = pair.key;
            }
        }
        pair.count = 0;
    }
    for (const EdgeRow& row : stretch.edges) row_[row.edge] = Numbers::NONE;
    stretch.ways.reserve(led_.size());
    for (const uint32_t number : led_) {
        stretch.ways.push_back({number, ways_[number].first});
        ways_[number].first = -1;
    }
    met_.clear();
    led_.clear();
    begin_ = total_;
}

void EdgeCounter::halve() {
    std::vector<Stretch> joined;
    row_.resize(std::max(edges_.size(), ways_.size()), Numbers::NONE);
    // adds the rows of a stretch to those of the one before it
    const auto add = [&](auto& rows, const auto& more, auto number, auto add_up) {
        for (size_t i = 0; i < rows.size(); ++i) row_[number(rows[i])] = static_cast<uint32_t>(i);
        for (const auto& row : more) {
            const uint32_t same = row_[number(row)];
            if (same == Numbers::NONE) {
                rows.push_back(row);
            } else {
                add_up(rows[same], row);
            }
        }
        for (const auto& row : rows) row_[number(row)] = Numbers::NONE;
    };
    for (size_t i = 0; i < stretches_.size(); i += 2) {
        Stretch& stretch = joined.emplace_back(std::move(stretches_[i]));
        const Stretch& next = stretches_[i + 1];
        add(
            stretch.edges, next.edges, [](const EdgeRow& row) { return row.edge; },
            [](EdgeRow& row, const EdgeRow& other) { row.count += other.count; });
        add(stretch.ways, next.ways, [](const WayRow& row) { return row.way; }, [](WayRow&, const WayRow&) {});
        stretch.transfers += next.transfers;
    }
    stretches_ = std::move(joined);
    length_ *= 2;
}

RunCounts EdgeCounter::done() {
    if (total_ > begin_) take();
    const std::vector<uint32_t> site = ranks(sites_), target = ranks(targets_);
    std::vector<uint64_t> keys;
    for (const Edge& edge : edges_) keys.push_back(both(site[edge.site], target[edge.target]));
    const std::vector<uint32_t> edge = ranks(keys);
    keys.clear();
    for (const Way& way : ways_) keys.push_back(both(edge[way.edge], site[way.entry]));
    RunCounts counts;
    for (const Stretch& stretch : stretches_) {
        counts.transfers.push_back(stretch.transfers);
        counts.edges.push_back(static_cast<int64_t>(stretch.edges.size()));
        counts.entered.push_back(static_cast<int64_t>(stretch.ways.size()));
    }
    sorted_edges(counts, edge);
    sorted_ways(counts, ranks(keys));
    return counts;
}

void EdgeCounter::sorted_edges(RunCounts& counts, const std::vector<uint32_t>& rank) const {
    const auto rows = [](const Stretch& stretch) -> const std::vector<EdgeRow>& { return stretch.edges; };
    std::vector<size_t> begin = begins(stretches_, rows);
    EdgeColumns& parts = counts.edges_of_stretches;
    parts = EdgeColumns(begin.back());
    counts.steps.resize(edges_.size());
    for (size_t i = 0; i < edges_.size(); ++i) counts.steps[rank[i]] = edges_[i].step;
    // all that was counted is in a stretch
    EdgeColumns& whole = counts.whole;
    whole = EdgeColumns(edges_.size());
    const auto put = [&](EdgeColumns& to, size_t at, const EdgeRow& row) {
        to.site[at] = sites_[edges_[row.edge].site];
        to.target[at] = targets_[edges_[row.edge].target];
        to.kind[at] = row.kind;
        to.count[at] = row.count;
        to.first[at] = row.first;
    };
    size_t last = SIZE_MAX;
    for (const auto& [stretch, number] :
         sorted(stretches_, edges_.size(), rows, [&](const EdgeRow& row) { return rank[row.edge]; })) {
        const EdgeRow& row = stretches_[stretch].edges[number];
        put(parts, begin[stretch]++, row);
        const size_t at = rank[row.edge];
        if (at == last) {
            whole.count[at] += row.count;
        } else {
            put(whole, at, row);
        }
        last = at;
    }
}

void EdgeCounter::sorted_ways(RunCounts& counts, const std::vector<uint32_t>& rank) const {
    const auto rows = [](const Stretch& stretch) -> const std::vector<WayRow>& { return stretch.ways; };
    std::vector<size_t> begin = begins(stretches_, rows);
    WayColumns& parts = counts.ways_of_stretches;
    parts = WayColumns(begin.back());
    WayColumns& whole = counts.ways;
    whole = WayColumns(ways_.size());
    const auto put = [&](WayColumns& to, size_t at, const WayRow& row) {
        const Way& way = ways_[row.way];
        to.site[at] = sites_[edges_[way.edge].site];
        to.target[at] = targets_[edges_[way.edge].target];
        to.entry[at] = sites_[way.entry];
        to.first[at] = row.first;
    };
    size_t last = SIZE_MAX;
    for (const auto& [stretch, number] :
         sorted(stretches_, ways_.size(), rows, [&](const WayRow& row) { return rank[row.way]; })) {
        const WayRow& row = stretches_[stretch].ways[number];
        put(parts, begin[stretch]++, row);
        const size_t at = rank[row.way];
        if (at != last) put(whole, at, row);
        last = at;
    }
}

}  // namespace barnum
