// What a piece of trace reports to the walker besides the outcomes of branches.
#pragma once

#include <intel-pt.h>

#include <cstdint>

namespace barnum {

enum class EventType : uint8_t {
    none,
    sync,            // PSB+: at `ip` with tracing on, or off without one
    enabled,         // tracing begins at `ip`
    disabled,        // a branch left the traced code, to `ip` where that is known
    async_disabled,  // tracing ended before the instruction at `at`
    async_branch,    // went from before the instruction at `at` to `ip`
    overflow,        // packets were lost; goes on at `ip`, or with tracing off
    exec_mode,       // `mode` holds from `ip` on
    epoch,           // code changed: `payload`
    other,           // does not move the walker
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

// answers of a source about a branch, beside 0 and 1
enum : int {
    kNoAnswer = -1,  // something else comes first: the other kind of branch, or an event
    kBadTrace = -2,  // packets cannot be read on
};

}  // namespace barnum
