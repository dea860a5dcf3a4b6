// Follows the calls and returns of a path, and notes the transfers that do not fit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "../common/picking.hpp"
#include "stack.hpp"

namespace barnum {

// what the last instruction of a block does; 0: nothing that matters here
enum Role : uint8_t {
    kCall = 1,
    kReturn = 2,
    kIndirect = 4,  // a call or a jump
    kFar = 8,
    kUnknown = 16,  // no block: a place without known code
};

enum Trait : uint8_t {
    kStart = 1,    // a function begins with the block
    kOutside = 2,  // it lies in no file
    kPart = 4,     // it lies in a part of a function that is apart from the rest
};

// k blocks that are new in the table
struct WatchedBlocks {
    const uint64_t* start;
    const uint64_t* after;     // address behind the block
    const uint64_t* site;      // token as a source
    const uint64_t* target;    // token as a target
    const uint32_t* function;  // that the block lies in; 0: unknown
    const uint16_t* process;
    const uint8_t* role;
    const uint8_t* trait;
    size_t count;
};

// what is noted of a transfer; part of the interface to Python
enum class Note : uint8_t {
    unknown_left,   // to where no code is known, and the program was interrupted right there
    unknown_ended,  // the same, as the last of its stream
    unknown_ran,    // the same, and something ran there
    elsewhere,      // a return to where no call waits
    begun,          // the same, to where a function begins
    switched,       // the same, behind a call that ran before
    unwound,        // a return into a function that waits for another return
    entry,          // an indirect call or jump to where no function begins
    jumped,         // an indirect jump into a function that waits for a return
    jump_back,      // an indirect jump behind a call that ran before, in a function that does not wait
    outside,        // from a file to code that lies in none
};

struct Noted {
    Note kind;
    uint32_t source, target;
    uint64_t step;  // of the target, the first time
    uint64_t count;
    std::vector<uint32_t> functions;  // that waited for a return then, the innermost first
};

// what the stack says of a return; part of the interface to Python
enum class Verdict : uint8_t { none, matched, unwound, unknown, elsewhere, resumed };

struct Ending {
    uint16_t stream;
    uint32_t source, target;
    uint64_t step;  // of the target
    bool transfer;  // there is one from source to target
};

// the next steps of a path; turns, where they are told: see Chunk in paths/blocks.py
struct WatchedSteps {
    const uint32_t* block;
    const uint8_t* gap;
    const uint16_t* stream;
    size_t count;
    const uint32_t* turns = nullptr;
    size_t turned = 0;
};

class Watch {
public:
    static constexpr size_t kMostNotes = 1 << 12;
    static constexpr size_t kMostFurther = 1 << 20;
    static constexpr size_t kMostFunctions = 64;
    static constexpr size_t kMostCalls = 1 << 21;  // whose places behind them are known

    void extend(const WatchedBlocks& blocks);
    size_t blocks() const { return role_.size(); }
    // verdicts: nullptr, or one for the transfer to each step. Where turns are told, pick() comes first
    void add(const WatchedSteps& steps, uint8_t* verdicts);
    // finds the steps that are looked at, and of which the blocks must be known, by the turns
    void pick(const WatchedSteps& steps) { picked_.by_turns(steps.turns, steps.turned, steps.gap, steps.count); }
    const std::vector<uint32_t>& picked() const { return picked_.steps(); }
    void finish();

    const std::vector<Noted>& notes() const { return notes_; }
    const std::vector<Ending>& endings() const { return endings_; }
    // distinct ones that are not among the notes, counted up to kMostFurther
    size_t further() const { return further_.size(); }
    bool exhausted() const { return stacks_.exhausted(); }
    uint64_t verdicts(Verdict verdict) const { return verdicts_[static_cast<size_t>(verdict)]; }
    // of each block the step at which it was first reached by an indirect transfer that no call explains, and the
    // block before (kNobody: never)
    static constexpr uint32_t kNobody = ~uint32_t{0};
    const std::vector<uint32_t>& reached_from() const { return from_; }
    const std::vector<uint64_t>& reached_at() const { return when_; }

private:
    bool plain(uint32_t block, uint8_t role, uint32_t previous, Verdict& verdict);
    void look_back(const uint32_t* block, const uint8_t* gap, size_t i);
    void look(const WatchedSteps& steps, size_t i, uint8_t before, uint64_t begin, uint8_t* verdicts);
    Verdict follow(uint32_t block, uint8_t gap);
    void interrupted(uint32_t block);
    void hidden(uint32_t block);
    Verdict returned(uint32_t block);
    Verdict mismatched(uint32_t block);
    void came_back(uint32_t block);
    void call(uint32_t block);
    void jump(uint32_t block);
    void settle_unknown(uint8_t gap);
    void end_stream();
    void note(Note kind, uint32_t source, uint32_t target, uint64_t step);
    void reached(uint32_t block);
    bool behind_call(uint32_t block) const;
    bool switches() const { return !switches_.empty() && switches_.contains(site_[previous_]); }
    void leave();
    void resumed(uint32_t block);
    void handled_by(uint32_t block);
    uint64_t place(uint32_t block, uint64_t address) const;

    // what is asked of a block at a call or return lies together
    struct Known {
        uint64_t start, after;
        uint32_t function;
        uint16_t process;
        uint8_t trait;
    };
    std::vector<Known> known_;
    std::vector<uint8_t> role_;
    std::vector<uint64_t> site_, target_;
    std::vector<uint32_t> from_;
    std::vector<uint64_t> when_;
    std::unordered_set<uint64_t> behind_calls_;
    std::unordered_set<uint64_t> handlers_;  // where handlers began
    std::unordered_set<uint64_t> switches_;  // tokens of branches that went on with another stack

    Picked picked_;
    Stacks stacks_;
    uint64_t step_ = 0;
    uint32_t previous_ = kNobody, before_ = kNobody;
    uint16_t stream_ = 0;
    bool connected_ = false;           // there is a transfer to the step before
    uint32_t unknown_from_ = kNobody;  // the step before is a place without known code that this block led to

    std::vector<Noted> notes_;
    std::unordered_map<uint64_t, uint32_t> index_;
    std::unordered_set<uint64_t> further_;
    std::vector<Ending> endings_;
    uint64_t verdicts_[6] = {};
};

}  // namespace barnum
