#include "scorer.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "../common/levels.hpp"

// vectors of 256 bits are chosen when the extension is loaded, where the processor has them. No fused multiply-add
// is used, and lanes are counted below, so that they give the same bits as those of 128; the C library's logarithms
// are in double precision, so that what they choose by the processor is rounded away all but always
#if defined(WIDEST_VECTORS)
// a test has chosen
#elif defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define WIDEST_VECTORS __attribute__((target_clones("avx2", "default")))
#else
#define WIDEST_VECTORS
#endif

namespace barnum {

namespace {

// partial sums of a product, whatever the width of the processor's vectors
constexpr size_t LANES = 16;
constexpr size_t MOST_RANKS = 256, MOST_UNITS = 4096;
// as good as impossible, but small enough to be subtracted again from a 32-bit number
constexpr float NONE = -40.0F;

// e to the power of x in [-87, 88], within some 1e-7 of it: 2^n e^r with n whole and |r| <= ln 2 / 2, e^r by its
// Taylor series
inline float exponential(float x) {
    constexpr float LOG2_E = 1.44269504F;
    // ln 2 in two parts, of which the first has few enough digits that n times it is exact
    constexpr float LN2_HIGH = 0.693359375F, LN2_LOW = -2.12194440e-4F;
    constexpr float ROUND = 12582912.0F;  // 1.5 · 2^23: adding it leaves no digit behind the point
    const float shifted = x * LOG2_E + ROUND;
    const float n = shifted - ROUND;
    const float r = (x - n * LN2_HIGH) - n * LN2_LOW;
    float series = 1.0F / 5040;
    series = series * r + 1.0F / 720;
    series = series * r + 1.0F / 120;
    series = series * r + 1.0F / 24;
    series = series * r + 1.0F / 6;
    series = series * r + 0.5F;
    series = series * r + 1.0F;
    series = series * r + 1.0F;
    const int32_t exponent = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(ROUND);
    return series * std::bit_cast<float>((exponent + 127) << 23);
}

WIDEST_VECTORS void hidden_units(const float* site, const float* previous, const float* gate, size_t units, float* h) {
    for (size_t k = 0; k < units; ++k) {
        const float x = std::min(std::max(site[k] + previous[k], -9.0F), 9.0F);
        h[k] = (1.0F - 2.0F / (exponential(2.0F * x) + 1.0F)) * gate[k];
    }
}

// two vectors of the widest processors, or more of narrower ones
using Lanes = float __attribute__((vector_size(LANES * sizeof(float) / 2)));

// units are a multiple of LANES
WIDEST_VECTORS void products(const float* h, const float* weight, size_t units, size_t width, float* out) {
    for (size_t r = 0; r < width; ++r, weight += units) {
        Lanes even{}, odd{}, a, b;
        for (size_t k = 0; k < units; k += LANES) {
            std::memcpy(&a, h + k, sizeof a);
            std::memcpy(&b, weight + k, sizeof b);
            even += a * b;
            std::memcpy(&a, h + k + LANES / 2, sizeof a);
            std::memcpy(&b, weight + k + LANES / 2, sizeof b);
            odd += a * b;
        }
        even += odd;
        out[r] = ((even[0] + even[4]) + (even[2] + even[6])) + ((even[1] + even[5]) + (even[3] + even[7]));
    }
}

// e to the power of each number's difference to the greatest; 0 where that is too small to matter
WIDEST_VECTORS void below(const float* x, size_t size, float greatest, float* out) {
    for (size_t i = 0; i < size; ++i) {
        const float under = x[i] - greatest;
        const float e = exponential(std::max(under, -80.0F));
        out[i] = under < -80.0F ? 0.0F : e;
    }
}

float log_sum(const float* x, size_t size) {
    float greatest = x[0], parts[MOST_RANKS];
    for (size_t i = 1; i < size; ++i) greatest = std::max(greatest, x[i]);
    below(x, size, greatest, parts);
    double sum = 0;
    for (size_t i = 0; i < size; ++i) sum += parts[i];
    return greatest + static_cast<float>(std::log(sum));
}

// logarithm of 1 / (1 + e^-x)
float log_sigmoid(float x) {
    const double wide = x;
    return static_cast<float>(std::min(wide, 0.0) - std::log1p(std::exp(-std::abs(wide))));
}

}  // namespace

CausalScorer::CausalScorer(const Network& network)
    : network_(network), units_((network.units + LANES - 1) / LANES * LANES) {
    if (network.units < 1 || network.units > MOST_UNITS || network.ranks < 2 || network.ranks > MOST_RANKS) {
        throw std::invalid_argument("a network of sizes that it cannot have");
    }
    for (size_t i = 0; i < network.sites; ++i) {
        if (network.width[i] < 1) throw std::invalid_argument("a site without targets");
    }
    weight_.assign(network.ranks * units_, 0.0F);
    for (size_t r = 0; r < network.ranks; ++r) {
        std::copy_n(network.out_weight + r * network.units, network.units, weight_.data() + r * units_);
    }
    const auto chances = [](const float* odds, size_t size, std::vector<float>& yes, std::vector<float>& no) {
        for (size_t i = 0; i < size; ++i) {
            yes.push_back(log_sigmoid(odds[i]));
            no.push_back(log_sigmoid(-odds[i]));
        }
    };
    const size_t cells = (network.lengths + 1) * LEVELS;
    chances(network.sure, 2 * cells, sure_, unsure_);
    chances(network.further_sure, FURTHER * cells, further_sure_, further_unsure_);
}

void CausalScorer::check(const Rows& rows) const {
    const Network& net = network_;
    bool good = true;
    for (size_t i = 0; i < rows.size; ++i) {
        good &= rows.site[i] >= 0 && static_cast<size_t>(rows.site[i]) < net.sites;
        good &= rows.previous[i] >= 0 && static_cast<size_t>(rows.previous[i]) < net.targets;
    }
    for (size_t i = 0; i < rows.size * net.lengths; ++i) good &= rows.level[i] < LEVELS;
    for (size_t i = 0; i < rows.size * FURTHER; ++i) good &= rows.further_level[i] < LEVELS;
    if (!good) throw std::out_of_range("a row names what the network does not have");
}

void CausalScorer::score(const Rows& rows, const Predictions& out) const {
    check(rows);
    const Network& net = network_;
    const size_t lengths = net.lengths, cells = (lengths + 1) * LEVELS;
    std::array<float, MOST_UNITS> h{};
    std::array<float, MOST_RANKS> logits, learnt;
    for (size_t i = 0; i < rows.size; ++i) {
        const size_t site = static_cast<size_t>(rows.site[i]);
        const size_t width = std::min(static_cast<size_t>(net.width[site]), net.ranks);
        const uint8_t *rank = rows.rank + i * lengths, *level = rows.level + i * lengths;
        size_t longest = lengths;
        while (longest > 0 && level[longest - 1] == 0) --longest;
        const bool cut = rows.reach[i] == longest;

        // each rank that contexts give has its share of what those before it leave
        std::array<size_t, 1 + FURTHER> who;
        std::array<float, 1 + FURTHER> share;
        size_t given = 0;
        float left = 0;
        const auto give = [&](size_t which, float right, float wrong) {
            if (which >= width) return;  // of no site with these targets
            who[given] = which;
            share[given++] = right + left;
            left += wrong;
        };
        if (longest > 0) {
            const size_t cell = (cut ? cells : 0) + longest * LEVELS + level[longest - 1];
            give(rank[longest - 1], sure_[cell], unsure_[cell]);
        }
        for (size_t place = 0; place < FURTHER; ++place) {
            const size_t sure = rows.further_level[i * FURTHER + place];
            if (sure == 0) continue;
            const size_t cell = place * cells + longest * LEVELS + sure;
            give(rows.further[i * FURTHER + place], further_sure_[cell], further_unsure_[cell]);
        }
        // the others share the rest by their frequencies
        std::copy_n(net.prior + site * net.ranks, width, logits.data());
        for (size_t j = 0; j < given; ++j) logits[who[j]] = NONE;
        const float rest = std::max(log_sum(logits.data(), width), NONE);
        for (size_t r = 0; r < width; ++r) logits[r] += left - rest;
        for (size_t j = 0; j < given; ++j) logits[who[j]] = share[j];

        // what was learnt holds for whole histories
        if (!cut || longest == lengths) {
            hidden_units(net.site + site * net.units, net.previous + static_cast<size_t>(rows.previous[i]) * net.units,
                         net.gate + site * net.units, net.units, h.data());
            products(h.data(), weight_.data(), units_, width, learnt.data());
            for (size_t r = 0; r < width; ++r) logits[r] += learnt[r] + net.out_bias[r];
            for (size_t k = 0; k < lengths; ++k) {
                if (level[k] > 0 && rank[k] < width) logits[rank[k]] += net.strength[k * LEVELS + level[k]];
            }
        }

        const float total = log_sum(logits.data(), width);
        const size_t likeliest = static_cast<size_t>(
            std::max_element(logits.begin(), logits.begin() + static_cast<ptrdiff_t>(width)) - logits.begin());
        out.likeliest[i] = static_cast<uint8_t>(likeliest);
        out.best[i] = logits[likeliest] - total;
        for (size_t a = 0; a < rows.asked_columns; ++a) {
            const size_t asked = rows.asked[i * rows.asked_columns + a];
            out.log_p[i * rows.asked_columns + a] =
                asked < width ? logits[asked] - total : -std::numeric_limits<float>::infinity();
        }
    }
}

}  // namespace barnum
