#include "transfers.hpp"

#include <algorithm>
#include <stdexcept>

namespace barnum {

TransferFilter::TransferFilter(const bool* restart) { std::copy(restart, restart + 256, restart_); }

TransferColumns TransferFilter::add(const uint8_t* roles, size_t blocks, const Steps& steps) {
    const auto check = [&](uint32_t block) {
        if (block >= blocks) throw std::out_of_range("a step names a block that is not in the table");
    };
    for (size_t k = 0; k < steps.turned; ++k) {
        if (steps.turns[k] >= steps.size || (k != 0 && steps.turns[k] <= steps.turns[k - 1])) {
            throw std::out_of_range("turns are no steps in their order");
        }
    }
    if (steps.turns == nullptr) {
        uint32_t highest = 0;
        for (size_t i = 0; i < steps.size; ++i) highest = std::max(highest, steps.block[i]);
        if (steps.size != 0) check(highest);
        picked_.by_roles(roles, steps.block, steps.gap, steps.size);
    } else {
        // only what is looked at need be there
        picked_.by_turns(steps.turns, steps.turned, steps.gap, steps.size);
        for (const uint32_t at : picked_.steps()) {
            check(steps.block[at]);
            if (at != 0) check(steps.block[at - 1]);
        }
        if (steps.size != 0) check(steps.block[steps.size - 1]);
    }
    TransferColumns found;
    found.resize(picked_.steps().size());
    size_t to = 0;
    for (const uint32_t at : picked_.steps()) {
        if (at == 0 && !begun_) continue;  // the first step comes from nowhere
        const uint32_t source = at == 0 ? last_ : steps.block[at - 1];
        const uint8_t role = roles[source];
        if ((role & ENTERS_KERNEL) != 0) entered_ = static_cast<int32_t>(source);
        if (steps.gap[at] != 0) {
            pending_ = pending_ || restart_[steps.gap[at]];
            continue;
        }
        if ((role & LEARNT) == 0) continue;
        found.source[to] = source;
        found.target[to] = steps.block[at];
        found.position[to] = position_ + at;
        found.first[to] = pending_ ? 1 : 0;
        found.entry[to] = pending_ ? -1 : entered_;
        ++to;
        pending_ = false;
        entered_ = -1;
    }
    found.resize(to);
    if (steps.size != 0) {
        last_ = steps.block[steps.size - 1];
        begun_ = true;
    }
    position_ += steps.size;
    return found;
}

}  // namespace barnum
