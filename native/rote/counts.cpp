#include "counts.hpp"

#include <algorithm>
#include <bit>
#include <numeric>

#include "../common/threads.hpp"

namespace barnum {

namespace {

using Keyed = std::pair<uint64_t, const Context*>;

// Keys are hashes: as many buckets as there are contexts, by their upper bits, hold one or two each. Where keys
// of a file are not like that it takes longer.
std::vector<Keyed> by_key(const Table& table) {
    const auto bits = std::max(1, static_cast<int>(std::bit_width(table.size())));
    const auto bucket = [&](const Context& context) { return static_cast<size_t>(context.key >> (64 - bits)); };
    std::vector<size_t> end((size_t{1} << bits) + 1);
    table.each_context([&](const Context& context) { ++end[bucket(context) + 1]; });
    std::partial_sum(end.begin(), end.end(), end.begin());
    std::vector<Keyed> sorted(table.size());
    table.each_context([&](const Context& context) { sorted[end[bucket(context)]++] = {context.key, &context}; });
    size_t begin = 0;
    for (size_t i = 0; i + 1 < end.size(); begin = end[i++]) {
        if (end[i] > begin + 1) std::sort(&sorted[begin], &sorted[begin] + (end[i] - begin));
    }
    return sorted;
}

}  // namespace

std::vector<uint32_t> places_of(const std::vector<uint64_t>& tokens) {
    std::vector<uint32_t> order(tokens.size()), place(tokens.size());
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return tokens[a] < tokens[b]; });
    for (size_t i = 0; i < order.size(); ++i) place[order[i]] = static_cast<uint32_t>(i);
    return place;
}

Counts counts_of(const Table& table, const std::vector<uint32_t>& place) {
    const std::vector<Keyed> contexts = by_key(table);
    Counts counts;
    counts.key.reserve(contexts.size());
    counts.first.reserve(contexts.size() + 1);
    uint64_t followers = 0;
    for (const auto& [key, context] : contexts) {
        counts.key.push_back(key);
        counts.first.push_back(followers);
        followers += table.distinct(*context);
    }
    counts.first.push_back(followers);
    counts.follower.reserve(followers);
    counts.count.reserve(followers);
    std::vector<std::pair<uint32_t, uint32_t>> several;
    for (const auto& [key, context] : contexts) {
        if (context->list == NONE) {
            counts.follower.push_back(place[context->top]);
            counts.count.push_back(context->count);
            continue;
        }
        several.clear();
        table.each(*context, [&](uint32_t target, uint32_t times) { several.emplace_back(place[target], times); });
        std::sort(several.begin(), several.end());
        for (const auto& [target, times] : several) {
            counts.follower.push_back(target);
            counts.count.push_back(times);
        }
    }
    return counts;
}

std::vector<Counts> counts_of(const Rote& rote, size_t threads) {
    const std::vector<uint32_t> place = places_of(rote.targets());
    std::vector<Counts> all(rote.lengths().size());
    in_threads(threads, all.size(), [&](size_t turn) {
        const size_t order = all.size() - 1 - turn;
        all[order] = counts_of(rote.table(order), place);
    });
    return all;
}

}  // namespace barnum
