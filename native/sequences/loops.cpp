#include "loops.hpp"

namespace barnum {

void Loops::mark(const uint64_t* key, const bool* restart, size_t size, bool* keep) {
    for (size_t i = 0; i < size; ++i) {
        if (restart[i]) {
            seen_ = 0;
            same_.fill(0);
        }
        bool repeated = false;
        const size_t reach = seen_ < LONGEST ? static_cast<size_t>(seen_) : LONGEST;
        for (size_t period = 1; period <= reach; ++period) {
            if (last_[(seen_ - period) % LONGEST] == key[i]) {
                if (same_[period] != UINT32_MAX) ++same_[period];
                repeated |= same_[period] > uint64_t{rounds_ - 1} * period;
            } else {
                same_[period] = 0;
            }
        }
        keep[i] = !repeated;
        last_[seen_ % LONGEST] = key[i];
        ++seen_;
    }
}

}  // namespace barnum
