// What a piece of trace tells the walker besides the ways that branches went.
#pragma once

#include <intel-pt.h>

#include <cstdint>

namespace barnum {

enum class EventType : uint8_t {
    none,
    sync,            // PSB+: at `ip` with tracing on, or off without one
    enabled,         // tracing begins at `ip`
    disabled,        // a branch left what is traced, to `ip` where that is told
    async_disabled,  // tracing ended before the instruction at `at`
    async_branch,    // went from before the instruction at `at` to `ip`
    overflow,        // packets were lost; goes on at `ip`, or with tracing off
    exec_mode,       // `mode` holds from `ip` on
    epoch,           // code changed: `payload`
    other,           // nothing that moves the walker
};

struct Event {
    EventType type = EventType::none;
    bool has_ip = false;
    bool status_update = false;
    pt_exec_mode mode = ptem_unknown;
    uint64_t ip = 0;
    uint64_t at = 0;
    uint64_t payload = 0;
};

// answers of a source to a question about a branch, beside 0 and 1
enum : int {
    kNoAnswer = -1,  // the trace tells something else first: the other kind of branch, or an event
    kBadTrace = -2,  // packets cannot be read on
};

}  // namespace barnum
