// One pass over the steps: most need nothing; calls, returns, system calls and gaps move the stack.
#include "watch.hpp"

#include <algorithm>

#include "../common/hashing.hpp"

namespace barnum {

namespace {
// causes of gaps, as in the format of parsed traces
enum Gap : uint8_t { kNone, kStartOfStream, kOff, kAsync, kOverflow, kLost, kUnmapped, kCodeChanged };

bool is_restart(uint8_t gap) { return gap == kStartOfStream || gap == kOverflow || gap == kLost || gap == kUnmapped; }

constexpr uint64_t kSystemCall = 2;  // bytes of the instruction
}  // namespace

void Watch::extend(const WatchedBlocks& blocks) {
    const auto append = [&](auto& to, const auto* from) { to.insert(to.end(), from, from + blocks.count); };
    append(site_, blocks.site);
    append(target_, blocks.target);
    append(role_, blocks.role);
    for (size_t i = 0; i < blocks.count; ++i) {
        known_.push_back({blocks.start[i], blocks.after[i], blocks.function[i], blocks.process[i], blocks.trait[i]});
        if ((blocks.role[i] & kCall) != 0 && behind_calls_.size() < kMostCalls) {
            behind_calls_.insert(place(static_cast<uint32_t>(known_.size() - 1), blocks.after[i]));
        }
    }
    from_.resize(role_.size(), kNobody);
    when_.resize(role_.size(), 0);
}

// an address in the process of a block
uint64_t Watch::place(uint32_t block, uint64_t address) const {
    return mixed(address + (static_cast<uint64_t>(known_[block].process) << 48));
}

bool Watch::behind_call(uint32_t block) const { return behind_calls_.contains(place(block, known_[block].start)); }

void Watch::add(const WatchedSteps& steps, uint8_t* verdicts) {
    if (steps.count == 0) return;
    const uint8_t* const role = role_.data();
    const uint64_t begin = step_;
    uint8_t before = previous_ == kNobody ? 0 : role[previous_];
    if (steps.turns == nullptr) {
        for (size_t i = 0; i < steps.count; ++i) {
            // most steps need nothing
            if ((before | steps.gap[i]) != 0) look(steps, i, before, begin, verdicts);
            before = role[steps.block[i]];
        }
    } else {
        // see pick()
        for (const uint32_t i : picked_.steps()) {
            if (i != 0) before = role[steps.block[i - 1]];
            if ((before | steps.gap[i]) != 0) look(steps, i, before, begin, verdicts);
        }
    }
    look_back(steps.block, steps.gap, steps.count);
    step_ = begin + steps.count;
}

// step i of a part that begins with step `begin` of the path, behind a block with the role `before`
inline void Watch::look(const WatchedSteps& steps, size_t i, uint8_t before, uint64_t begin, uint8_t* verdicts) {
    const uint32_t here = steps.block[i];
    const uint8_t gap = steps.gap[i];
    Verdict verdict = Verdict::none;
    if (gap != kNone || i == 0 || !plain(here, before, steps.block[i - 1], verdict)) {
        look_back(steps.block, steps.gap, i);
        step_ = begin + i;
        if (gap == kStartOfStream || (gap != kNone && steps.stream[i] != stream_)) {
            end_stream();
            stream_ = steps.stream[i];
        }
        verdict = follow(here, gap);
    }
    ++verdicts_[static_cast<size_t>(verdict)];
    if (verdicts != nullptr) verdicts[i] = static_cast<uint8_t>(verdict);
}

// a direct call, or a return to the call that waits: whether that is all there is to the transfer
inline bool Watch::plain(uint32_t block, uint8_t role, uint32_t previous, Verdict& verdict) {
    if ((role_[block] & kUnknown) != 0) return false;
    Stack& stack = stacks_.here();
    if (role == kCall) {
        stack.push(known_[previous].after, known_[previous].function, Mark::call);
        return true;
    }
    if (role != kReturn || !stack.top_is(Mark::call) || stack.top().address != known_[block].start) return false;
    if (!switches_.empty()) return false;
    stack.cut(stack.size() - 1);
    verdict = Verdict::matched;
    return true;
}

// what came before step i of a part
void Watch::look_back(const uint32_t* block, const uint8_t* gap, size_t i) {
    if (i == 0) return;
    before_ = i > 1 ? block[i - 2] : previous_;
    previous_ = block[i - 1];
    connected_ = gap[i - 1] == kNone;
}

void Watch::finish() { end_stream(); }

void Watch::end_stream() {
    if (previous_ == kNobody) return;
    if (unknown_from_ != kNobody) note(Note::unknown_ended, unknown_from_, previous_, step_ - 1);
    unknown_from_ = kNobody;
    endings_.push_back({stream_, connected_ ? before_ : previous_, previous_, step_ - 1, connected_});
    previous_ = before_ = kNobody;
    connected_ = false;
    stacks_.clear();
}

Verdict Watch::follow(uint32_t block, uint8_t gap) {
    if (unknown_from_ != kNobody) settle_unknown(gap);
    if (is_restart(gap) || previous_ == kNobody) {
        stacks_.clear();
        return Verdict::none;
    }
    if (gap == kAsync) {
        interrupted(block);
        return Verdict::none;
    }
    if (gap == kOff) {
        hidden(block);
        return Verdict::none;
    }
    if (gap != kNone) return Verdict::none;
    const uint8_t role = role_[previous_];
    if ((role_[block] & kUnknown) != 0) {
        // noted once it is known whether the program went on from there
        unknown_from_ = previous_;
        if ((role & kCall) != 0) stacks_.here().push(known_[previous_].after, known_[previous_].function, Mark::call);
        return Verdict::none;
    }
    if ((role & kReturn) != 0) {
        const Verdict verdict = returned(block);
        // one that goes on with another stack may go on with any frame of it
        if (verdict != Verdict::unknown && switches()) stacks_.here().doubt();
        return verdict;
    }
    const uint8_t outside = known_[block].trait & ~known_[previous_].trait & kOutside;
    if (outside != 0 && (role & kIndirect) != 0) note(Note::outside, previous_, block, step_);
    if ((role & kFar) != 0) {
        came_back(block);
    } else if ((role & kCall) != 0) {
        if ((role & kIndirect) != 0) call(block);
        stacks_.here().push(known_[previous_].after, known_[previous_].function, Mark::call);
    } else if ((role & kIndirect) != 0) {
        jump(block);
    }
    return Verdict::none;
}

void Watch::settle_unknown(uint8_t gap) {
    note(gap == kAsync ? Note::unknown_left : Note::unknown_ran, unknown_from_, previous_, step_ - 1);
    unknown_from_ = kNobody;
}

// a signal, a fault or the like: a handler runs, and after it the program goes on where it was
void Watch::interrupted(uint32_t block) {
    Stack& stack = stacks_.here();
    const uint8_t role = role_[previous_];
    if ((role & kCall) != 0) stack.push(known_[previous_].after, known_[previous_].function, Mark::call);
    if (stack.top_is(Mark::call) && stack.top().address == known_[block].start) {
        stack.cut(stack.size() - 1);
        return;
    }
    const uint64_t resume = (role & (kCall | kReturn | kIndirect)) != 0 ? 0 : known_[previous_].after;
    stack.push(resume, known_[previous_].function, Mark::signal);
    stack.frames.back().returning = (role & kReturn) != 0;
    handled_by(block);
}

// code ran that is not traced
void Watch::hidden(uint32_t block) {
    Stack& stack = stacks_.here();
    if ((role_[previous_] & kCall) != 0) stack.push(known_[previous_].after, known_[previous_].function, Mark::call);
    const size_t at = stacks_.find_return(known_[block].start);
    if (at != Stacks::kNone) {
        stack.cut(at);
    } else if (!stack.top_is(Mark::hidden)) {
        stack.push(0, 0, Mark::hidden);
    }
}

Verdict Watch::returned(uint32_t block) {
    Stack& stack = stacks_.here();
    const uint64_t to = known_[block].start;
    if (stack.top_is(Mark::call) && stack.top().address == to) {
        stack.cut(stack.size() - 1);
        return Verdict::matched;
    }
    const size_t at = stacks_.find_return(to);
    if (at != Stacks::kNone) {
        stack.cut(at);
        return Verdict::unwound;
    }
    if (stack.top_is(Mark::signal) && (role_[block] & kFar) != 0) {
        // the way out of a handler: what it returns to asks the kernel to go on
        stack.frames.back().mark = Mark::leaving;
        return Verdict::matched;
    }
    return mismatched(block);
}

Verdict Watch::mismatched(uint32_t block) {
    Stack& stack = stacks_.here();
    if (stacks_.exhausted()) return Verdict::unknown;
    if (stacks_.resume(known_[block].start)) return Verdict::resumed;
    const bool start = (known_[block].trait & kStart) != 0;
    const bool behind = !start && behind_call(block);
    if (!stack.sure()) {
        if (behind && switches()) leave();
        return Verdict::unknown;
    }
    reached(block);
    const size_t at = known_[block].function != 0 ? stacks_.find_function(known_[block].function) : Stacks::kNone;
    if (at != Stacks::kNone && !start && !behind) {
        // exceptions end in a function that waits, but not behind its call
        note(Note::unwound, previous_, block, step_);
        stack.cut(at);
        return Verdict::unwound;
    }
    note(start ? Note::begun : behind ? Note::switched : Note::elsewhere, previous_, block, step_);
    // coroutines and tasks go on with a stack of their own; a function that is begun by a return may be called so
    if (behind) leave();
    if ((known_[block].trait & ~known_[previous_].trait & kOutside) != 0) note(Note::outside, previous_, block, step_);
    return Verdict::elsewhere;
}

void Watch::leave() {
    if (switches_.size() < kMostNotes) switches_.insert(site_[previous_]);
    stacks_.leave();
}

// the kernel went on elsewhere than behind the call: a handler begins, or is left
void Watch::came_back(uint32_t block) {
    Stack& stack = stacks_.here();
    const uint64_t to = known_[block].start, behind = known_[previous_].after;
    // it is over, or is to be asked once more; the way out of a handler may be interrupted, too
    if (to == behind || to + kSystemCall == behind) return;
    if (stack.top_is(Mark::leaving)) {
        // several were due at once, and the next one begins: where one began before, or where a function does and
        // the program was not interrupted before that
        const uint64_t resume = stack.top().address;
        const bool other = resume != 0 && to != resume && to + kSystemCall != resume;
        if (handlers_.contains(place(block, to)) || (other && (known_[block].trait & kStart) != 0)) {
            stack.frames.back().mark = Mark::signal;
            handled_by(block);
        } else {
            resumed(block);
        }
        return;
    }
    const auto& frames = stack.frames;
    for (size_t at = frames.size(); at-- > 0 && frames.size() - at <= kMostFunctions;) {
        const Frame& frame = frames[at];
        if (frame.mark != Mark::signal && frame.mark != Mark::leaving) continue;
        if (frame.address == to || frame.address == to + kSystemCall) {
            stack.cut(at);
            return;
        }
    }
    stack.push(behind, known_[previous_].function, Mark::signal);
    handled_by(block);
}

// a handler is left, and the program goes on where it was
void Watch::resumed(uint32_t block) {
    Stack& stack = stacks_.here();
    const bool returning = stack.top().returning;
    stack.cut(stack.size() - 1);
    if (!returning) return;
    const size_t at = stacks_.find_return(known_[block].start);
    if (at != Stacks::kNone) stack.cut(at);
}

void Watch::handled_by(uint32_t block) {
    if (handlers_.size() < kMostNotes) handlers_.insert(place(block, known_[block].start));
}

void Watch::call(uint32_t block) {
    reached(block);
    if (known_[block].function != 0 && (known_[block].trait & kStart) == 0) note(Note::entry, previous_, block, step_);
}

void Watch::jump(uint32_t block) {
    reached(block);
    const uint32_t function = known_[block].function;
    if (function == 0 || function == known_[previous_].function || (known_[block].trait & kStart) != 0) return;
    // within one function, which may itself be among those that wait; or an exception
    if (((known_[block].trait | known_[previous_].trait) & kPart) != 0) return;
    const bool behind = behind_call(block);
    const size_t at = stacks_.find_function(function);
    if (at != Stacks::kNone) {
        // longjmp, or an exception
        if (!behind) note(Note::jumped, previous_, block, step_);
        stacks_.here().cut(at);
    } else if (!behind) {
        note(Note::entry, previous_, block, step_);
    } else if (!stacks_.resume(known_[block].start)) {
        note(Note::jump_back, previous_, block, step_);
        leave();
    }
    if (switches()) stacks_.here().doubt();
}

void Watch::reached(uint32_t block) {
    if (from_[block] != kNobody) return;
    from_[block] = previous_;
    when_[block] = step_;
}

void Watch::note(Note kind, uint32_t source, uint32_t target, uint64_t step) {
    // which of many functions is begun so, and which call is gone on behind, does not matter
    const bool any = kind == Note::begun || kind == Note::switched || kind == Note::jump_back;
    const uint64_t where = any ? 0 : target_[target];
    const uint64_t key = mixed(mixed(site_[source] ^ static_cast<uint64_t>(kind)) + where);
    const auto found = index_.find(key);
    if (found != index_.end()) {
        ++notes_[found->second].count;
        return;
    }
    if (notes_.size() >= kMostNotes) {
        if (further_.size() < kMostFurther) further_.insert(key);
        return;
    }
    index_.emplace(key, static_cast<uint32_t>(notes_.size()));
    Noted noted{kind, source, target, step, 1, {}};
    const auto& frames = stacks_.here().frames;
    for (size_t at = frames.size(); at-- > 0 && frames.size() - at <= 4 * kMostFunctions;) {
        const uint32_t function = frames[at].function;
        if (noted.functions.size() == kMostFunctions) break;
        const auto& known = noted.functions;
        if (function != 0 && std::find(known.begin(), known.end(), function) == known.end()) {
            noted.functions.push_back(function);
        }
    }
    notes_.push_back(std::move(noted));
}

}  // namespace barnum
