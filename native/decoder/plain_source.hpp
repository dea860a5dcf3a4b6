// A piece of trace that has only the common packets, read in place.
//
// Nine of ten pieces are: branches, targets, tracing switched on and off, interrupts. Whatever else libipt knows
// (overflow, errata, transactions, power, damage) is left to QuerySource; survey() says which pieces have any.
#pragma once

#include <intel-pt.h>

#include <cstdint>

#include "event.hpp"

namespace barnum {

class PlainSource {
public:
    // whether every packet of the piece is one that this class reads exactly as libipt does
    static bool survey(const uint8_t* begin, const uint8_t* end, const pt_errata& errata);

    void open(const uint8_t* begin, const uint8_t* end);

    bool sync(Event& event) const {
        event = sync_;
        return true;
    }
    bool event_pending() const { return bits_ == kEmpty && next_ == Next::event; }
    bool at_end() const { return bits_ == kEmpty && next_ == Next::end; }
    bool truncated() const { return false; }
    int conditional() {
        if (bits_ == kEmpty) {
            if (next_ != Next::tnt) return kNoAnswer;
            load_bits();
        }
        const int taken = static_cast<int>(bits_ >> 63);
        bits_ <<= 1;
        return taken;
    }
    int indirect(uint64_t& ip) {
        if (next_ == Next::tnt && bits_ == kEmpty) load_bits();  // targets may come before their bits are used
        if (next_ != Next::tip) return kNoAnswer;
        ip = take_ip();
        look_ahead();
        return 0;
    }
    int event(Event& event);
    uint64_t offset() const { return static_cast<uint64_t>(at_ - begin_); }

private:
    enum class Next : uint8_t { tnt, tip, event, end };
    // bits are kept at the top, the oldest first, closed by a one
    static constexpr uint64_t kEmpty = 1ull << 63;

    static uint64_t align_bits(uint64_t value) { return value << (__builtin_clzll(value) + 1); }
    void load_bits();
    uint64_t take_ip();
    void look_ahead();

    const uint8_t* begin_ = nullptr;
    const uint8_t* at_ = nullptr;
    const uint8_t* end_ = nullptr;
    uint64_t bits_ = kEmpty;
    uint64_t last_ip_ = 0;
    Next next_ = Next::end;
    pt_exec_mode mode_ = ptem_unknown;  // of MODE.Exec, bound to the next TIP or TIP.PGE
    bool mode_waits_ = false;
    bool enabled_told_ = false;
    bool header_ = false;  // between PSB and PSBEND
    Event sync_;
};

}  // namespace barnum
