#include "transfers.hpp"

#include <algorithm>
#include <stdexcept>

namespace barnum {

TransferFilter::TransferFilter(const bool* restart) { std::copy(restart, restart + 256, restart_); }

TransferColumns TransferFilter::add(const uint8_t* roles, size_t blocks, const Steps& steps) {
    TransferColumns found;
    add(roles, blocks, steps, found);
    found.resize(found.count);
    return found;
}

void TransferFilter::add(const uint8_t* roles, size_t blocks, const Steps& steps, TransferColumns& found) {
    found.count = 0;
    if (steps.size == 0) return;
    const auto check = [&](uint32_t block) {
        if (block >= blocks) throw std::out_of_range("a step names a block that is not in the table");
    };
    if (!are_turns(steps.turns, steps.turned, steps.size)) throw std::out_of_range("turns are no steps in their order");
    if (steps.turns == nullptr) {
        uint32_t highest = 0;
        for (size_t i = 0; i < steps.size; ++i) highest = std::max(highest, steps.block[i]);
        check(highest);
        picked_.by_roles(roles, steps.block, steps.gap, steps.size);
    } else {
        picked_.by_turns(steps.turns, steps.turned, steps.gap, steps.size);
        // only what is looked at need be there
        check(steps.block[steps.size - 1]);
    }
    const std::vector<uint32_t>& picked = picked_.steps();
    if (found.source.size() < picked.size()) found.resize(picked.size());
    // changed once all is known to be good
    bool pending = pending_;
    int32_t entered = entered_;
    size_t to = 0;
    for (const uint32_t at : picked) {
        const uint32_t target = steps.block[at];
        check(target);
        if (at == 0 && !begun_) continue;  // the first step comes from nowhere
        const uint32_t source = at == 0 ? last_ : steps.block[at - 1];
        check(source);
        const uint8_t role = roles[source];
        if ((role & ENTERS_KERNEL) != 0) entered = static_cast<int32_t>(source);
        if (steps.gap[at] != 0) {
            pending = pending || restart_[steps.gap[at]];
            continue;
        }
        // what is learnt is hard to foresee: a row is written, and kept or not
        found.source[to] = source;
        found.target[to] = target;
        found.position[to] = position_ + at;
        found.first[to] = pending ? 1 : 0;
        found.entry[to] = pending ? -1 : entered;
        const bool learnt = (role & LEARNT) != 0;
        to += learnt ? 1 : 0;
        pending = pending && !learnt;
        entered = learnt ? -1 : entered;
    }
    found.count = to;
    pending_ = pending;
    entered_ = entered;
    last_ = steps.block[steps.size - 1];
    begun_ = true;
    position_ += steps.size;
}

const TransferColumns& TransferCounter::add(const uint8_t* roles, const BlockTable& blocks, const Steps& steps) {
    filter_.add(roles, blocks.size, steps, found_);
    counter_.add_checked(blocks, {found_.source.data(), found_.target.data(), found_.first.data(), found_.entry.data(),
                                  found_.count, found_.position.data()});
    return found_;
}

}  // namespace barnum
