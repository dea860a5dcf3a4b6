#include "plain_source.hpp"

#include <cstring>

namespace barnum {

namespace {

enum : uint8_t {
    kPad = 0x00,
    kExtended = 0x02,
    kTsc = 0x19,
    kMtc = 0x59,
    kMode = 0x99,
    // packets with an address: the low five bits of the opcode
    kPgd = 0x01,
    kTip = 0x0d,
    kPge = 0x11,
    kFup = 0x1d,
    // second byte of an extended opcode
    kExtCbr = 0x03,
    kExtPsbEnd = 0x23,
    kExtPip = 0x43,
    kExtTma = 0x73,
    kExtPsb = 0x82,
    kExtTnt = 0xa3,
    kExtMnt = 0xc3,
    kExtVmcs = 0xc8,
};
constexpr int kPsbSize = 16;
constexpr int kMntSize = 11;

bool is_cyc(uint8_t byte) { return (byte & 3) == 3; }

// bytes of address after the opcode, by its upper three bits; -1: reserved
constexpr int8_t kIpSize[8] = {0, 2, 4, 6, 6, -1, 8, -1};

int cyc_size(const uint8_t* p, const uint8_t* end) {
    if ((*p & 4) == 0) return 1;
    for (int size = 2; size <= 8 && p + size <= end; ++size)
        if ((p[size - 1] & 1) == 0) return size;
    return -1;
}

uint64_t read_bytes(const uint8_t* p, int n) {
    uint64_t value = 0;
    std::memcpy(&value, p, static_cast<size_t>(n));  // x86 is little-endian, and so are the packets
    return value;
}

// size of a packet that carries no event; 0 for other packets, -1 where libipt must judge
int quiet_size(const uint8_t* p, const uint8_t* end, const pt_errata* errata) {
    const auto left = end - p;
    switch (*p) {
        case kPad:
            return 1;
        case kTsc:
            return left >= 8 ? 8 : -1;
        case kMtc:
            return left >= 2 ? 2 : -1;
        case kExtended:
            if (left < 2) return -1;
            switch (p[1]) {
                case kExtCbr:
                    return left >= 4 && p[2] != 0 ? 4 : -1;
                case kExtTma:
                    // reserved bits are set by an erratum, which libipt knows to handle
                    return left >= 7 && p[4] == 0 && (p[6] & 0xfe) == 0 ? 7 : -1;
                default:
                    return 0;
            }
        default:
            if (!is_cyc(*p)) return 0;
            return errata != nullptr && errata->skd007 ? -1 : cyc_size(p, end);
    }
}

bool mode_is_exec(uint8_t payload) { return (payload & ~3) == 0; }

pt_exec_mode exec_mode(uint8_t payload) {
    switch (payload & 3) {
        case 1:
            return ptem_64bit;
        case 2:
            return ptem_32bit;
        case 0:
            return ptem_16bit;
        default:
            return ptem_unknown;
    }
}

// size of a packet inside of PSB+; -1 where libipt must judge
int header_size(const uint8_t* p, const uint8_t* end, const pt_errata* errata) {
    const auto left = end - p;
    if (*p == kMode) {
        if (left < 2) return -1;
        return mode_is_exec(p[1]) || (p[1] & ~3) == 0x20 ? 2 : -1;
    }
    if ((*p & 0x1f) == kFup) {
        const int size = kIpSize[*p >> 5];
        return size > 0 && left > size ? 1 + size : -1;
    }
    if (*p == kExtended && left >= 2) {
        if (p[1] == kExtPsbEnd) return 2;
        if (p[1] == kExtPip) return left >= 8 ? 8 : -1;
        if (p[1] == kExtVmcs) return left >= 7 ? 7 : -1;
        if (p[1] == kExtMnt) return left >= kMntSize && p[2] == 0x88 ? kMntSize : -1;
    }
    const int size = quiet_size(p, end, errata);
    return size == 0 ? -1 : size;
}

bool is_psb_end(const uint8_t* p) { return p[0] == kExtended && p[1] == kExtPsbEnd; }

}  // namespace

bool PlainSource::survey(const uint8_t* begin, const uint8_t* end, const pt_errata& errata) {
    const uint8_t* p = begin;
    if (end - p < kPsbSize + 2) return false;
    p += kPsbSize;
    bool header_ip = false;
    bool header_mode = false;
    for (;;) {
        if (p >= end) return false;
        const int size = header_size(p, end, &errata);
        if (size < 0) return false;
        if ((*p & 0x1f) == kFup) {
            if (header_ip) return false;
            header_ip = true;
        } else if (*p == kMode && mode_is_exec(p[1])) {
            if (header_mode || exec_mode(p[1]) == ptem_unknown) return false;
            header_mode = true;
        }
        const bool done = *p == kExtended && p[1] == kExtPsbEnd;
        p += size;
        if (done) break;
    }
    bool first = true;
    bool after_fup = false;   // wants the target or the end of tracing next
    bool after_mode = false;  // wants a target or the start of tracing next
    while (p < end) {
        const uint8_t b = *p;
        if (b == kPad) {
            ++p;
            continue;
        }
        if ((b & 1) == 0 && b != kExtended) {
            if (after_fup || after_mode) return false;
            first = false;
            ++p;
            continue;
        }
        const int quiet = quiet_size(p, end, &errata);
        if (quiet < 0 || (quiet > 0 && after_fup)) return false;
        if (quiet > 0) {
            p += quiet;
            continue;
        }
        const auto left = end - p;
        const uint8_t low = b & 0x1f;
        if (low == kTip || low == kPge || low == kPgd || low == kFup) {
            const int size = kIpSize[b >> 5];
            if (size < 0 || left <= size || (size == 0 && low != kPgd)) return false;
            if (after_fup && low != kTip && low != kPgd) return false;
            if (after_mode && low != kTip && low != kPge) return false;
            // erratum BDM70: such a PSB+ says that tracing is on although it is not
            if (low == kPge && first && header_ip && errata.bdm70) return false;
            after_fup = low == kFup;
            after_mode = false;
            first = false;
            p += 1 + size;
            continue;
        }
        if (after_fup || after_mode) return false;
        if (b == kMode) {
            if (left < 2 || !mode_is_exec(p[1]) || exec_mode(p[1]) == ptem_unknown) return false;
            after_mode = true;
            p += 2;
        } else if (b == kExtended && p[1] == kExtTnt) {
            if (left < 8 || read_bytes(p + 2, 6) < 2) return false;
            first = false;
            p += 8;
        } else if (b == kExtended && p[1] == kExtMnt) {
            if (left < kMntSize || p[2] != 0x88) return false;
            p += kMntSize;
        } else {
            return false;
        }
    }
    return p == end && !after_fup && !after_mode;
}

void PlainSource::open(const uint8_t* begin, const uint8_t* end) {
    begin_ = begin;
    end_ = end;
    bits_ = kEmpty;
    last_ip_ = 0;
    mode_waits_ = enabled_told_ = false;
    sync_ = Event{};
    sync_.type = EventType::sync;
    at_ = begin + kPsbSize;
    for (const uint8_t* p = at_; !is_psb_end(p); p += header_size(p, end, nullptr)) {
        if ((*p & 0x1f) == kFup) {
            const uint8_t* header = at_;
            at_ = p;
            sync_.ip = take_ip();
            sync_.has_ip = true;
            at_ = header;
        } else if (*p == kMode && mode_is_exec(p[1])) {
            sync_.mode = exec_mode(p[1]);
        }
    }
    header_ = true;
    look_ahead();
}

void PlainSource::load_bits() {
    if (*at_ == kExtended) {
        bits_ = align_bits(read_bytes(at_ + 2, 6) << 1 | 1);
        at_ += 8;
    } else {
        bits_ = align_bits(*at_ | 1u);
        ++at_;
    }
    look_ahead();
}

uint64_t PlainSource::take_ip() {
    const int compression = *at_ >> 5;
    const int size = kIpSize[compression];
    const uint64_t value = read_bytes(at_ + 1, size);
    at_ += 1 + size;
    switch (compression) {
        case 0:
            break;
        case 3:
            last_ip_ = static_cast<uint64_t>(static_cast<int64_t>(value << 16) >> 16);
            break;
        case 6:
            last_ip_ = value;
            break;
        default:
            last_ip_ = (last_ip_ & (~0ull << (8 * size))) | value;
            break;
    }
    return last_ip_;
}

void PlainSource::look_ahead() {
    while (at_ < end_) {
        const uint8_t b = *at_;
        if (header_) {
            if (b == kExtended && at_[1] == kExtMnt) {
                next_ = Next::event;
                return;
            }
            header_ = !is_psb_end(at_);
            at_ += header_size(at_, end_, nullptr);
            continue;
        }
        if (b == kPad) {
            ++at_;
            continue;
        }
        if ((b & 1) == 0 && b != kExtended) {
            next_ = Next::tnt;
            return;
        }
        const int quiet = quiet_size(at_, end_, nullptr);
        if (quiet > 0 && (b != kExtended || at_[1] != kExtCbr)) {
            at_ += quiet;
            continue;
        }
        if (b == kMode) {
            mode_ = exec_mode(at_[1]);
            mode_waits_ = true;
            at_ += 2;
            continue;
        }
        if (b == kExtended && at_[1] == kExtTnt)
            next_ = Next::tnt;
        else
            next_ = (b & 0x1f) == kTip && !mode_waits_ ? Next::tip : Next::event;
        return;
    }
    next_ = Next::end;
}

int PlainSource::event(Event& event) {
    event = Event{};
    event.has_ip = true;
    const uint8_t low = *at_ & 0x1f;
    if (*at_ == kExtended && at_[1] == kExtMnt) {
        event.type = EventType::epoch;
        event.payload = read_bytes(at_ + 3, 8);
        at_ += kMntSize;
    } else if (*at_ == kExtended) {
        // does not move the walker, but branch bits before it cannot wait for what comes after it
        event.type = EventType::other;
        at_ += quiet_size(at_, end_, nullptr);
    } else if (mode_waits_ && (low == kTip || enabled_told_)) {
        // the mode holds from the address of this packet on, which itself is still to be read
        const uint8_t* packet = at_;
        const uint64_t before = last_ip_;
        event.type = EventType::exec_mode;
        event.mode = mode_;
        event.ip = take_ip();
        mode_waits_ = false;
        if (low == kTip) {
            at_ = packet;
            last_ip_ = before;
        }
        enabled_told_ = false;
    } else if (low == kPge) {
        const uint8_t* packet = at_;
        const uint64_t before = last_ip_;
        event.type = EventType::enabled;
        event.ip = take_ip();
        if (mode_waits_) {
            enabled_told_ = true;
            at_ = packet;
            last_ip_ = before;
        }
    } else if (low == kPgd) {
        event.type = EventType::disabled;
        event.has_ip = (*at_ >> 5) != 0;
        event.ip = take_ip();
    } else {
        event.at = take_ip();  // FUP
        while (*at_ == kPad) ++at_;
        const bool off = (*at_ & 0x1f) == kPgd;
        event.type = off ? EventType::async_disabled : EventType::async_branch;
        event.has_ip = (*at_ >> 5) != 0;
        event.ip = take_ip();
    }
    look_ahead();
    return 0;
}

}  // namespace barnum
