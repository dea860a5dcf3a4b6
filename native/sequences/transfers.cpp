#include "transfers.hpp"

#include <algorithm>
#include <stdexcept>

namespace barnum {

TransferFilter::TransferFilter(const bool* restart) { std::copy(restart, restart + 256, restart_); }

TransferColumns TransferFilter::add(const uint8_t* roles, size_t blocks, const uint32_t* block, const uint8_t* gap,
                                    size_t size) {
    uint32_t highest = 0;
    for (size_t i = 0; i < size; ++i) highest = std::max(highest, block[i]);
    if (size != 0 && highest >= blocks) throw std::out_of_range("a step names a block that is not in the table");
    TransferColumns found;
    if (size == 0) return found;
    size_t begin = 0;
    if (!begun_) {
        // the first step comes from nowhere
        last_ = block[0];
        begun_ = true;
        begin = 1;
    }
    for (size_t end = begin; begin < size; begin = end) {
        end = std::min(size, begin + PIECE);
        pick(found, roles, block, gap, begin, end);
    }
    last_ = block[size - 1];
    position_ += size;
    return found;
}

void TransferFilter::pick(TransferColumns& found, const uint8_t* roles, const uint32_t* block, const uint8_t* gap,
                          size_t begin, size_t end) {
    // most steps are none of interest, and which are is hard to foresee: they are listed without a branch
    uint32_t picked[PIECE];
    size_t count = 0;
    size_t i = begin;
    if (i == 0) {
        picked[0] = 0;
        count = (roles[last_] | gap[0]) != 0 ? 1 : 0;
        i = 1;
    }
    for (; i < end; ++i) {
        picked[count] = static_cast<uint32_t>(i - begin);
        count += (roles[block[i - 1]] | gap[i]) != 0 ? 1 : 0;
    }
    size_t to = found.source.size();
    found.resize(to + count);
    for (size_t k = 0; k < count; ++k) {
        const size_t at = begin + picked[k];
        const uint32_t source = at == 0 ? last_ : block[at - 1];
        const uint8_t role = roles[source];
        if ((role & ENTERS_KERNEL) != 0) entered_ = static_cast<int32_t>(source);
        if (gap[at] != 0) {
            pending_ = pending_ || restart_[gap[at]];
            continue;
        }
        if ((role & LEARNT) == 0) continue;
        found.source[to] = source;
        found.target[to] = block[at];
        found.position[to] = position_ + at;
        found.first[to] = pending_ ? 1 : 0;
        found.entry[to] = pending_ ? -1 : entered_;
        ++to;
        pending_ = false;
        entered_ = -1;
    }
    found.resize(to);
}

}  // namespace barnum
