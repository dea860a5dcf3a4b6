// Walks the code along the trace and gives the blocks that ran, in order, with the gaps between them.
#pragma once

#include <intel-pt.h>

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "address_space.hpp"
#include "block_table.hpp"
#include "code_reader.hpp"
#include "event.hpp"
#include "nodes.hpp"

namespace barnum {

// why there is no transfer from the step before; the numbers are part of the file format
enum class Gap : uint8_t {
    none = 0,
    start = 1,
    off = 2,
    async = 3,
    overflow = 4,
    lost = 5,
    unmapped = 6,
    code_changed = 7,
};

struct GapDetail {
    uint64_t step;
    Gap cause;
    uint64_t offset;   // byte of the stream
    uint64_t address;  // where the walker was; 0: nowhere
    uint64_t bytes_lost;
};

struct Statistics {
    uint64_t bytes = 0, bytes_lost = 0, instructions = 0, blocks = 0, errors = 0, unmapped = 0;
    uint64_t overflows = 0, psb = 0, plain = 0, epochs = 0, unknown = 0;
};

struct Output {
    uint32_t* ids = nullptr;
    uint8_t* gaps = nullptr;  // zeroed by the caller
    // indices of steps: of all whose block ends with a call, a return, an indirect or a far branch, and of some others;
    // room for limit of them
    uint32_t* turns = nullptr;
    size_t turned = 0;
    size_t size = 0;
    size_t limit = 0;
    bool full() const { return size >= limit; }
};

enum class Stop : uint8_t { full, end };

// return addresses of calls, for compressed returns
class ReturnStack {
public:
    static constexpr unsigned kSize = 64;
    struct Entry {
        uint64_t ip = 0;
        Node* caller = nullptr;
    };
    void push(uint64_t ip, Node* caller) {
        top_ = (top_ + 1) % kSize;
        entries_[top_] = {ip, caller};
        if (used_ < kSize) ++used_;
    }
    bool pop(Entry& entry) {
        if (used_ == 0) return false;
        entry = entries_[top_];
        top_ = (top_ + kSize - 1) % kSize;
        --used_;
        return true;
    }
    void clear() { used_ = 0; }
    void forget_nodes() {
        for (auto& entry : entries_) entry.caller = nullptr;
    }

private:
    std::array<Entry, kSize> entries_{};
    unsigned top_ = 0;
    unsigned used_ = 0;
};

class Walker {
public:
    static constexpr size_t kMaxDetails = 1 << 16;
    static constexpr size_t kMaxUnmapped = 4096;

    Walker(std::shared_ptr<const AddressSpace> space, std::shared_ptr<BlockTable> table, uint32_t index);

    // begins a piece of the stream whose first byte is at `offset`; `last`: no piece follows
    template <class Source>
    void begin(const Source& source, uint64_t offset, bool last);
    // full: call again with room; end: the piece is used up
    template <class Source>
    Stop run(Source& source, Output& out);
    // the bytes from `offset` of the stream up to the next piece cannot be read
    void lose_bytes(uint64_t offset);
    // the stream ends at `offset`; may give one step
    void finish(uint64_t offset, Output& out);

    const std::vector<GapDetail>& details() const { return details_; }
    const std::map<uint64_t, uint64_t>& unmapped() const { return unmapped_; }
    Statistics& statistics() { return statistics_; }
    const Statistics& statistics() const { return statistics_; }

private:
    enum class Settled : uint8_t { done, walk, lost };
    enum class Step : uint8_t { done, lost, stop };

    // -- the current address (place.cpp)
    uint64_t masked(uint64_t ip) const { return mode_ == ptem_64bit ? ip : ip & 0xffffffffull; }
    void go(uint64_t ip);
    Node& here();
    bool load(Node& node);
    bool ready(Node& node);
    bool reached(uint64_t ip);
    bool unknown_here();
    void set_mode(pt_exec_mode mode);
    void set_epoch(uint64_t epoch);
    void make_room();

    // -- output (place.cpp)
    void emit(const Node& node, Output& out);
    bool emit_unknown(Output& out);
    bool emit_part(Output& out);
    bool has_part() const { return part_unknown_ || !part_.sizes.empty(); }
    void drop_part() {
        part_unknown_ = false;
        part_.sizes.clear();
    }
    void cut();
    void join();
    void set_gap(Gap gap);
    void detail(Gap cause, uint64_t address);
    void lose(Gap cause, uint64_t address);
    void found();
    void resume(uint64_t ip);
    bool is_loop();
    void quiet_over() {
        quiet_ = 0;
        quiet_next_ = kQuiet;
        quiet_mark_ = nullptr;
    }

    // -- events (events.cpp)
    Settled settle(Output& out);
    Settled settle_sync(Output& out);
    void settle_doubt(EventType next);
    Settled settle_enabled(Output& out);
    Settled settle_disabled(Output& out);
    void search_event(const Event& event, Output& out);

    // -- branches (walker.cpp)
    template <class Source>
    bool search(Source& source, Output& out);
    template <class Source>
    Step step(Source& source, Output& out, bool packets);
    template <class Source>
    void run_fast(Source& source, Output& out);
    bool run_out(Output& out);
    void advance(Node& node, Output& out);
    template <class Source>
    void look_up(const Source& source) {
        where_ = base_ + source.offset();
    }

    CodeView view_;
    CodeReader reader_;
    std::shared_ptr<BlockTable> table_;
    uint32_t index_;
    NodeCache caches_[3];
    NodeCache* cache_;
    pt_exec_mode mode_;
    pt_exec_mode mode_after_ = ptem_unknown;  // holds where tracing begins next
    ReturnStack stack_;

    bool enabled_ = false;
    uint64_t ip_ = 0;       // start of the block that comes next
    Node* node_ = nullptr;  // its node, once looked up
    uint64_t from_ = 0;     // the walker has passed what comes before this address of the block

    // since tracing went off
    Gap off_ = Gap::none;  // the gap where it comes on again
    bool async_ = false;   // it went off between two instructions, at off_ip_
    bool code_changed_ = false;
    uint64_t off_ip_ = 0;
    CodeBlock part_;             // what ran of the block at ip_ when it was interrupted; empty: nothing
    bool part_unknown_ = false;  // nothing ran, and nothing can: the transfer to ip_ is the last that is known
    Gap part_gap_ = Gap::none;

    bool held_ = false;  // event_ waits until the walker reaches its address
    Event event_;
    bool doubt_ = false;      // PSB+ had no address: tracing is off, or an overflow cut it short
    bool searching_ = false;  // after an error: for a place to go on
    Gap gap_ = Gap::start;    // of the next step

    // steps since a packet was last used: a loop among them is endless. Counted in the same way by step() and
    // run_fast(), so that what is given before a loop is found does not depend on how the trace was fed or read
    static constexpr uint64_t kQuiet = 64;
    uint64_t quiet_ = 0, quiet_next_ = kQuiet;
    const Node* quiet_mark_ = nullptr;
    bool careful_ = false;  // run_fast() cannot do the next block

    bool last_piece_ = false;
    uint64_t base_ = 0;   // of the piece in the stream
    uint64_t where_ = 0;  // byte of the stream where the trace is read
    bool losing_ = false;
    uint64_t lost_from_ = 0;
    size_t lost_detail_ = 0;

    std::vector<GapDetail> details_;
    std::map<uint64_t, uint64_t> unmapped_;
    Statistics statistics_;
};

}  // namespace barnum
