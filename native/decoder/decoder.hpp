// Raw trace in, blocks out: cuts the stream at PSB packets and gives the pieces to the walker.
#pragma once

#include <intel-pt.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "plain_source.hpp"
#include "query_source.hpp"
#include "walker.hpp"

namespace barnum {

struct Cpu {
    uint16_t family = 0;
    uint8_t model = 0;
    uint8_t stepping = 0;
};

class Decoder {
public:
    // a longer piece is not trace: hardware sends a PSB every few kilobytes
    static constexpr uint64_t kMaxPiece = 128ull << 20;

    Decoder(std::shared_ptr<AddressSpace> space, std::shared_ptr<BlockTable> table, uint32_t index,
            std::optional<Cpu> cpu, bool plain);

    void feed(const uint8_t* data, size_t size, bool last);
    // fills `out` as far as the bytes fed so far allow
    void read(Output& out);

    const Walker& walker() const { return walker_; }
    Statistics statistics() const;

private:
    bool next_piece();
    size_t find_psb(size_t from);

    Walker walker_;
    pt_config config_;
    bool use_plain_;

    std::vector<uint8_t> buffer_;  // fed, and not yet in a piece
    size_t begin_ = 0;             // of what is left of it
    size_t searched_ = 0;          // no PSB begins after begin_ and before this
    uint64_t offset_ = 0;          // of buffer_[begin_] in the stream
    bool fed_all_ = false;
    bool skipping_ = false;  // bytes before the next PSB are not trace
    bool lost_ = false;      // and the walker knows
    bool finished_ = false;

    std::vector<uint8_t> piece_;
    bool in_piece_ = false;
    bool plain_ = false;
    PlainSource plain_source_;
    QuerySource query_source_;
};

// settings for libipt: the CPU and its errata
pt_config make_config(std::optional<Cpu> cpu);

}  // namespace barnum
