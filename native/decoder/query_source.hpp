// Any piece of trace, read by libipt's query decoder with the errata of the CPU.
#pragma once

#include <intel-pt.h>

#include <cstdint>

#include "event.hpp"

namespace barnum {

class QuerySource {
public:
    QuerySource() = default;
    ~QuerySource() { close(); }
    QuerySource(const QuerySource&) = delete;
    QuerySource& operator=(const QuerySource&) = delete;

    // begins at the PSB at `begin`; false where its PSB+ cannot be read
    bool open(const pt_config& model, const uint8_t* begin, const uint8_t* end);
    void close();

    bool sync(Event& event) const;
    bool event_pending() const { return (status_ & pts_event_pending) != 0; }
    bool at_end() const { return (status_ & pts_eos) != 0; }
    bool truncated() const { return truncated_; }
    int conditional();
    int indirect(uint64_t& ip);
    int event(Event& event);
    uint64_t offset() const;

private:
    int answer(int status);

    pt_query_decoder* decoder_ = nullptr;
    int status_ = 0;
    bool truncated_ = false;
    bool has_ip_ = false;
    uint64_t ip_ = 0;
};

}  // namespace barnum
