// The causal network's predictions, one transfer after the other; see barnum/models/networks/causal.py for the formula.
//
// A row is computed alone and in a fixed order of operations, whatever stands beside it: its result depends on
// no size of a batch and no number of threads, as a product of matrices from a library does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace barnum {

// the tables of a network; those that are not copied must outlive it
struct Network {
    size_t sites = 0;                     // M
    size_t targets = 0;                   // T + 2: the last two are a target never seen, and none
    size_t units = 0;                     // U
    size_t ranks = 0;                     // R
    size_t lengths = 0;                   // K
    const float* site = nullptr;          // [M, U]
    const float* previous = nullptr;      // [T + 2, U]
    const float* gate = nullptr;          // [M, U]
    const float* out_weight = nullptr;    // [R, U]
    const float* out_bias = nullptr;      // [R]
    const float* sure = nullptr;          // [2 (K + 1) LEVELS]
    const float* further_sure = nullptr;  // [FURTHER (K + 1) LEVELS]
    const float* strength = nullptr;      // [K LEVELS]
    const float* prior = nullptr;         // [M, R]
    const int32_t* width = nullptr;       // [M] targets of each site
};

// n transfers from sites with several targets: arrays of n rows
struct Rows {
    size_t size = 0;
    size_t asked_columns = 0;                // A
    const int32_t* site = nullptr;           // number among those with several targets
    const int32_t* previous = nullptr;       // target of the transfer before
    const uint8_t* rank = nullptr;           // [n, K], see barnum/sequences/contexts.py
    const uint8_t* level = nullptr;          // [n, K]
    const uint8_t* further = nullptr;        // [n, FURTHER]
    const uint8_t* further_level = nullptr;  // [n, FURTHER]
    const uint8_t* reach = nullptr;          // [n]
    const uint8_t* asked = nullptr;          // [n, A] ranks whose probability is asked for
};

struct Predictions {
    uint8_t* likeliest;  // [n] rank
    float* best;         // [n] its log probability
    float* log_p;        // [n, A] of the ranks asked for; -infinity where the site has fewer
};

class CausalScorer {
public:
    // throws std::invalid_argument where a size is out of bounds, or a site has no target
    explicit CausalScorer(const Network& network);

    // throws std::out_of_range where a row names what the network does not have
    void score(const Rows& rows, const Predictions& out) const;

private:
    void check(const Rows& rows) const;

    Network network_;
    std::vector<float> weight_;  // [R, units_] rows filled up with zeros
    size_t units_;               // U, rounded up to whole lanes
    // of each cell of sure and further_sure: log probability that the rank given is right, and that it is wrong
    std::vector<float> sure_, unsure_, further_sure_, further_unsure_;
};

}  // namespace barnum
