// Where the calls of one thread are to return to.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace barnum {

enum class Mark : uint8_t {
    call,     // a call waits for its return to `address`
    signal,   // a handler runs; the program goes on at `address`, 0: unknown
    leaving,  // the handler has returned, and the kernel is about to be asked to go on
    hidden,   // code that is not traced runs, and may have called what comes above
};

struct Frame {
    uint64_t address;
    uint32_t function;  // that called; 0: unknown
    Mark mark;
    bool returning = false;  // a signal came when a return had just been run: where to is known afterwards
};

// Frames, the innermost last. Of very deep ones the outermost fall off.
struct Stack {
    static constexpr size_t kDeepest = 1 << 18;

    std::vector<Frame> frames;
    bool dropped = false;
    size_t doubted = 0;  // the outermost so many may be another stack's

    // whether a return to elsewhere says something
    bool sure() const { return !dropped && frames.size() > doubted && !top_is(Mark::hidden); }
    void doubt() { doubted = frames.size(); }

    bool empty() const { return frames.empty(); }
    size_t size() const { return frames.size(); }
    const Frame& top() const { return frames.back(); }
    bool top_is(Mark mark) const { return !frames.empty() && frames.back().mark == mark; }
    void push(uint64_t address, uint32_t function, Mark mark) {
        if (frames.size() >= kDeepest) drop_half();
        frames.push_back({address, function, mark, false});
    }
    void cut(size_t size) {
        frames.resize(size);
        doubted = std::min(doubted, size);
    }
    void clear() {
        frames.clear();
        dropped = false;
        doubted = 0;
    }

private:
    void drop_half() {
        frames.erase(frames.begin(), frames.begin() + static_cast<std::ptrdiff_t>(kDeepest / 2));
        doubted -= std::min(doubted, kDeepest / 2);
        dropped = true;
    }
};

// The stack that a thread runs on, and those that it left for another one: of coroutines, of tasks.
// Searches share a budget, so that a hostile path costs no more than a bounded time.
class Stacks {
public:
    static constexpr size_t kMostParked = 256;
    static constexpr size_t kMostFrames = 1 << 20;  // of all parked stacks
    static constexpr size_t kNone = ~size_t{0};

    Stack& here() { return here_; }
    const Stack& here() const { return here_; }
    void clear();
    // the innermost call that returns to `address`; kNone: there is none
    size_t find_return(uint64_t address);
    // the innermost call out of `function`
    size_t find_function(uint32_t function);
    // leaves the stack for a new one, of which nothing is known
    void leave();
    // goes on with a parked stack whose innermost call returns to `address`, and takes that call from it; if several
    // do it is in doubt which
    bool resume(uint64_t address);
    bool exhausted() const { return budget_ == 0; }

private:
    template <typename Fits>
    size_t find(Fits fits);
    void park(Stack&& stack);

    Stack here_;
    std::vector<Stack> parked_;  // the last one left comes last
    size_t parked_frames_ = 0;
    uint64_t budget_ = uint64_t{1} << 30;
};

}  // namespace barnum
