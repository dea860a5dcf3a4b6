// What a context says of the transfer that follows it, as numbers: the tables of contexts give it, the causal
// network weighs it.
#pragma once

#include <cstddef>

namespace barnum {

// how sure a context is: 0 never met, then 7 classes of how often × 6 of how purely
constexpr int LEVELS = 43;
// ranks that the longest known context gives beside the most frequent one
constexpr size_t FURTHER = 2;

}  // namespace barnum
