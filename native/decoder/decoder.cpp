#include "decoder.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace barnum {

namespace {

constexpr size_t kPsbSize = 16;

bool is_psb(const uint8_t* p) {
    static constexpr uint8_t kPsb[kPsbSize] = {0x02, 0x82, 0x02, 0x82, 0x02, 0x82, 0x02, 0x82,
                                               0x02, 0x82, 0x02, 0x82, 0x02, 0x82, 0x02, 0x82};
    return std::memcmp(p, kPsb, kPsbSize) == 0;
}

}  // namespace

pt_config make_config(std::optional<Cpu> cpu) {
    pt_config config;
    pt_config_init(&config);
    if (cpu) {
        config.cpu.vendor = pcv_intel;
        config.cpu.family = cpu->family;
        config.cpu.model = cpu->model;
        config.cpu.stepping = cpu->stepping;
        // libipt knows no errata of a CPU that it does not know
        if (pt_cpu_errata(&config.errata, &config.cpu) < 0) std::memset(&config.errata, 0, sizeof(config.errata));
    }
    return config;
}

Decoder::Decoder(std::shared_ptr<AddressSpace> space, std::shared_ptr<BlockTable> table, uint32_t index,
                 std::optional<Cpu> cpu, bool plain)
    : walker_((space->freeze(), std::move(space)), std::move(table), index),
      config_(make_config(cpu)),
      use_plain_(plain) {}

void Decoder::feed(const uint8_t* data, size_t size, bool last) {
    if (fed_all_) throw std::invalid_argument("the stream was already fed to its end");
    if (begin_ != 0) {
        buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(begin_));
        searched_ -= begin_;
        begin_ = 0;
    }
    buffer_.insert(buffer_.end(), data, data + size);
    walker_.statistics().bytes += size;
    fed_all_ = last;
}

// place of the first PSB at or after `from`, or where the search must go on
size_t Decoder::find_psb(size_t from) {
    // one byte in fifteen is looked at: a PSB has one of its two bytes there
    const uint8_t* data = buffer_.data();
    const size_t size = buffer_.size();
    for (size_t i = from + kPsbSize - 1; i < size; i += kPsbSize - 1) {
        if (data[i] != 0x02 && data[i] != 0x82) continue;
        const size_t low = std::max(from, i - (kPsbSize - 1));
        for (size_t at = low; at <= i && at + kPsbSize <= size; ++at) {
            if (data[at] != 0x02 || !is_psb(data + at)) continue;
            // a packet before may end in bytes like these: the PSB is the last of such a run
            while (at + kPsbSize + 2 <= size && data[at + kPsbSize] == 0x02 && data[at + kPsbSize + 1] == 0x82) at += 2;
            return at;
        }
    }
    return size;
}

// moves the next piece, PSB to PSB, out of the buffer; false: more must be fed, or all is done
bool Decoder::next_piece() {
    for (;;) {
        const bool at_psb = !skipping_ && buffer_.size() - begin_ >= kPsbSize && is_psb(buffer_.data() + begin_);
        const size_t from = std::max(searched_, begin_ + (at_psb ? kPsbSize : 0));
        size_t end = find_psb(from);
        // a run of PSB bytes that reaches the end of the buffer may go on
        const bool open_run = end != buffer_.size() && end + kPsbSize + 2 > buffer_.size();
        const bool found = end != buffer_.size() && (fed_all_ || !open_run);
        if (!found && !open_run) searched_ = std::max(from, buffer_.size() - std::min(buffer_.size(), kPsbSize - 1));
        if (fed_all_ && !found) end = buffer_.size();
        const bool complete = found || fed_all_;
        if (!complete && open_run) end = buffer_.size();
        if (at_psb) {
            const bool too_long = end - begin_ > kMaxPiece;
            if (!complete && !too_long) return false;
            const size_t stop = too_long ? begin_ + kMaxPiece : end;
            piece_.assign(buffer_.begin() + static_cast<std::ptrdiff_t>(begin_),
                          buffer_.begin() + static_cast<std::ptrdiff_t>(stop));
            const uint64_t offset = offset_;
            offset_ += stop - begin_;
            begin_ = stop;
            searched_ = std::max(searched_, begin_);
            skipping_ = too_long;
            const uint8_t* data = piece_.data();
            const uint8_t* past = data + piece_.size();
            const bool last = fed_all_ && begin_ == buffer_.size();
            plain_ = use_plain_ && PlainSource::survey(data, past, config_.errata);
            if (!plain_ && !query_source_.open(config_, data, past)) {
                // libipt takes a PSB+ that nothing follows for the end of all trace
                plain_ = !use_plain_ && PlainSource::survey(data, past, config_.errata);
                if (!plain_) {
                    walker_.lose_bytes(offset);
                    continue;
                }
            }
            if (plain_) {
                plain_source_.open(data, past);
                walker_.begin(plain_source_, offset, last);
                ++walker_.statistics().plain;
            } else {
                walker_.begin(query_source_, offset, last);
            }
            in_piece_ = true;
            return true;
        }
        // bytes before a PSB: where packets begin among them is unknown
        size_t skip = end - begin_;
        if (!complete) {
            const size_t keep = open_run ? kPsbSize + 1 : kPsbSize - 1;
            skip = skip > keep ? skip - keep : 0;
        }
        if (skip != 0) {
            if (!lost_) walker_.lose_bytes(offset_);
            lost_ = true;
            begin_ += skip;
            offset_ += skip;
            searched_ = std::max(searched_, begin_);
        }
        if (!complete) return false;
        if (begin_ == buffer_.size()) return false;
        skipping_ = lost_ = false;
    }
}

void Decoder::read(Output& out) {
    while (!out.full()) {
        if (!in_piece_ && !next_piece()) {
            if (fed_all_ && !finished_) {
                finished_ = true;
                walker_.finish(offset_, out);
            }
            return;
        }
        const Stop stop = plain_ ? walker_.run(plain_source_, out) : walker_.run(query_source_, out);
        in_piece_ = stop != Stop::end;
    }
}

Statistics Decoder::statistics() const { return walker_.statistics(); }

}  // namespace barnum
