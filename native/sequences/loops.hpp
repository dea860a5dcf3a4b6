// Finds the rounds of loops in a run: stretches that repeat what came just before them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace barnum {

class Loops {
public:
    static constexpr size_t LONGEST = 64;  // transfers in a round

    explicit Loops(uint32_t rounds) : rounds_(rounds) {}

    // keep bool[size]: false where a loop has gone through so many rounds already; restart bool[size]: nothing
    // before this transfer is compared with what comes from it on
    void mark(const uint64_t* key, const bool* restart, size_t size, bool* keep);

private:
    uint32_t rounds_;
    uint64_t seen_ = 0;                         // transfers since the last restart
    std::array<uint64_t, LONGEST> last_{};      // of transfer j at j % LONGEST
    std::array<uint32_t, LONGEST + 1> same_{};  // by period: transfers in a row that equal the one a period before
};

}  // namespace barnum
