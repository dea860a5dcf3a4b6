// Searches in a thread's stacks.
#include "stack.hpp"

#include <utility>

namespace barnum {

void Stacks::clear() {
    here_.clear();
    parked_.clear();
    parked_frames_ = 0;
}

template <typename Fits>
size_t Stacks::find(Fits fits) {
    const auto& frames = here_.frames;
    size_t at = frames.size();
    while (at > 0 && budget_ > 0) {
        --at;
        --budget_;
        if (fits(frames[at])) return at;
    }
    return kNone;
}

size_t Stacks::find_return(uint64_t address) {
    return find([&](const Frame& frame) { return frame.address == address && frame.mark == Mark::call; });
}

size_t Stacks::find_function(uint32_t function) {
    return find([&](const Frame& frame) { return frame.function == function; });
}

void Stacks::park(Stack&& stack) {
    if (stack.empty()) return;
    parked_frames_ += stack.size();
    parked_.push_back(std::move(stack));
    while (parked_.size() > kMostParked || parked_frames_ > kMostFrames) {
        parked_frames_ -= parked_.front().size();
        parked_.erase(parked_.begin());
    }
}

void Stacks::leave() {
    park(std::move(here_));
    here_ = Stack();
}

bool Stacks::resume(uint64_t address) {
    for (size_t at = parked_.size(); at-- > 0 && budget_ > 0;) {
        --budget_;
        const Stack& stack = parked_[at];
        if (!stack.top_is(Mark::call) || stack.top().address != address) continue;
        Stack found = std::move(parked_[at]);
        parked_frames_ -= found.size();
        parked_.erase(parked_.begin() + static_cast<std::ptrdiff_t>(at));
        found.cut(found.size() - 1);
        found.doubt();
        park(std::move(here_));
        here_ = std::move(found);
        return true;
    }
    return false;
}

}  // namespace barnum
