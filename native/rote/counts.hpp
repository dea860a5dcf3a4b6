// What a table holds, in an order that does not depend on how it came there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "rote.hpp"

namespace barnum {

// contexts by key, and what followed each by token
struct Counts {
    std::vector<uint64_t> key;
    std::vector<uint64_t> first;     // where followers begin, and where those of the last end
    std::vector<uint32_t> follower;  // place of a target among all of them by token
    std::vector<uint32_t> count;
};

// the place of each target among all of them by token
std::vector<uint32_t> places_of(const std::vector<uint64_t>& tokens);

// of one table; followers have such places
Counts counts_of(const Table& table, const std::vector<uint32_t>& place);

// of all lengths
std::vector<Counts> counts_of(const Rote& rote, size_t threads);

}  // namespace barnum
