// prints what made-up rows are predicted by a made-up network, to the last bit
#include <cstdio>
#include "causal/scorer.cpp"
#include "common/levels.hpp"

static uint32_t state = 1;
static float number() { return static_cast<float>((state = state * 1664525 + 1013904223) >> 8) / (1 << 23) - 1; }
static std::vector<float> numbers(size_t size, float scale = 1) {
    std::vector<float> made(size);
    for (float& one : made) one = scale * number();
    return made;
}

int main() {
    constexpr size_t M = 20, T = 30, U = 70, R = 37, K = 3, N = 3000, F = barnum::FURTHER, L = barnum::LEVELS;
    auto site = numbers(M * U), previous = numbers(T * U, 3), gate = numbers(M * U, 2), weight = numbers(R * U),
         bias = numbers(R), sure = numbers(2 * (K + 1) * L, 4), next = numbers(F * (K + 1) * L, 4),
         strength = numbers(K * L), prior = numbers(M * R, 5);
    std::vector<int32_t> width(M), at(N), before(N);
    for (size_t i = 0; i < M; ++i) width[i] = static_cast<int32_t>(2 + i * 2);
    std::vector<uint8_t> rank(N * K), level(N * K), further(N * F), further_level(N * F), reach(N), asked(N), best(N);
    for (size_t i = 0; i < N; ++i) {
        at[i] = static_cast<int32_t>(i % M);
        before[i] = static_cast<int32_t>(i % T);
        reach[i] = i % (K + 1);
        for (size_t k = 0; k < K; ++k) {
            rank[i * K + k] = (i + k) % width[at[i]];
            level[i * K + k] = k < reach[i] ? (i * 7 + k) % L : 0;
        }
        for (size_t f = 0; f < F; ++f) {
            further[i * F + f] = (i + f + 1) % width[at[i]];
            further_level[i * F + f] = (i * 5 + f) % L;
        }
        asked[i] = i % width[at[i]];
    }
    barnum::CausalScorer scorer({M, T, U, R, K, site.data(), previous.data(), gate.data(), weight.data(), bias.data(),
                                 sure.data(), next.data(), strength.data(), prior.data(), width.data()});
    std::vector<float> log_p(N), most(N);
    scorer.score({N, 1, at.data(), before.data(), rank.data(), level.data(), further.data(), further_level.data(),
                  reach.data(), asked.data()},
                 {best.data(), most.data(), log_p.data()});
    for (size_t i = 0; i < N; ++i) std::printf("%d %a %a\n", best[i], most[i], log_p[i]);
}
