// What the events of a trace do to the walker. Each gives at most one step, for which the caller has room.
#include "walker.hpp"

namespace barnum {

Walker::Settled Walker::settle(Output& out) {
    const Event& event = event_;
    switch (event.type) {
        case EventType::none:
        case EventType::other:
            return Settled::done;
        case EventType::sync:
            return settle_sync(out);
        case EventType::epoch:
            set_epoch(event.payload);
            return Settled::done;
        case EventType::exec_mode:
            if (enabled_ && !event.status_update && !event.has_ip) {
                // libipt 2.1 reports it before the branch that leaves the traced code, which is still to be reached
                mode_after_ = event.mode;
                return Settled::done;
            }
            if (!enabled_ || event.status_update || masked(event.ip) == from_) {
                set_mode(event.mode);
                return Settled::done;
            }
            return Settled::walk;
        case EventType::enabled:
            return settle_enabled(out);
        case EventType::disabled:
            return settle_disabled(out);
        case EventType::async_disabled:
            if (!enabled_) break;
            if (!reached(event.at)) return Settled::walk;
            cut();
            enabled_ = false;
            async_ = true;
            code_changed_ = false;
            off_ = Gap::async;
            off_ip_ = masked(event.at);
            return Settled::done;
        case EventType::async_branch:
            if (!enabled_ || !event.has_ip) break;
            if (!reached(event.at)) return Settled::walk;
            cut();
            emit_part(out);
            set_gap(Gap::async);
            go(event.ip);
            return Settled::done;
        case EventType::overflow:
            emit_part(out);
            ++statistics_.overflows;
            detail(Gap::overflow, enabled_ ? ip_ : 0);
            set_gap(Gap::overflow);
            off_ = Gap::overflow;
            enabled_ = async_ = false;
            if (event.has_ip) resume(event.ip);
            return Settled::done;
    }
    return Settled::lost;
}

// PSB+: where tracing is on, the walker must come past its address without asking the trace
Walker::Settled Walker::settle_sync(Output& out) {
    if (!event_.has_ip) {
        set_mode(event_.mode);
        doubt_ = enabled_;
        return Settled::done;
    }
    if (!enabled_) {
        emit_part(out);
        if (off_ != Gap::lost && off_ != Gap::overflow && statistics_.blocks != 0) {
            // the packet that began tracing was missed
            lose(Gap::lost, 0);
            found();
        }
        set_gap(off_);
        resume(event_.ip);
        set_mode(event_.mode);
        return Settled::done;
    }
    if (!reached(event_.ip)) return Settled::walk;
    drop_part();
    from_ = masked(event_.ip);
    set_mode(event_.mode);
    return Settled::done;
}

// what follows PSB+ shows why it had no address: an overflow, or tracing had ended without a packet
void Walker::settle_doubt(EventType next) {
    if (next == EventType::other || next == EventType::exec_mode || next == EventType::epoch) return;
    doubt_ = false;
    if (next == EventType::overflow) return;
    lose(Gap::lost, ip_);
    found();
}

Walker::Settled Walker::settle_enabled(Output& out) {
    if (enabled_) {
        // tracing cannot begin twice; but now the place is known
        lose(Gap::lost, ip_);
        found();
        resume(event_.ip);
        return Settled::done;
    }
    const uint64_t ip = masked(event_.ip);
    const bool same = async_ && ip == off_ip_;
    const bool inside = !part_.sizes.empty();  // an unknown place may have got code
    if (same && !(code_changed_ && inside)) {
        // an interrupt that returned: the block goes on as if nothing had happened
        join();
        enabled_ = true;
        async_ = false;
        from_ = ip;
        return Settled::done;
    }
    emit_part(out);
    set_gap(same ? Gap::code_changed : off_);
    resume(event_.ip);
    return Settled::done;
}

// tracing ended with a branch: the first one from here that can have left what is traced
Walker::Settled Walker::settle_disabled(Output& out) {
    if (!enabled_) return Settled::lost;
    Node& node = here();
    if (node.flow == Flow::unready && !ready(node)) return Settled::lost;
    switch (node.real_flow) {
        case Flow::broken:
            // what ran there is not known, but that the program went there is
            if (node.count == 0 && gap_ == Gap::none) emit_unknown(out);
            return Settled::lost;
        case Flow::unready:
            return Settled::lost;
        case Flow::jump:
        case Flow::call:
            if (!event_.has_ip || masked(event_.ip) != masked(node.target)) return Settled::walk;
            break;
        default:
            break;  // any branch that needs packets, or may
    }
    emit(node, out);
    enabled_ = false;
    async_ = false;
    // a system call leaves and comes back: an ordinary transfer
    off_ = node.real_flow == Flow::far && !event_.has_ip ? Gap::none : Gap::off;
    return Settled::done;
}

void Walker::search_event(const Event& event, Output& out) {
    switch (event.type) {
        case EventType::enabled:
            emit_part(out);
            found();
            resume(event.ip);
            break;
        case EventType::overflow:
            ++statistics_.overflows;
            detail(Gap::overflow, 0);
            if (event.has_ip) {
                emit_part(out);
                found();
                resume(event.ip);
            }
            break;
        case EventType::epoch:
            set_epoch(event.payload);
            break;
        case EventType::exec_mode:
            set_mode(event.mode);
            break;
        default:
            break;
    }
}

}  // namespace barnum
