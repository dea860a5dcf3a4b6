// How branches are followed: by the trace, where the code alone does not determine where they go.
#include "walker.hpp"

#include "plain_source.hpp"
#include "query_source.hpp"

namespace barnum {

template <class Source>
void Walker::begin(const Source& source, uint64_t offset, bool last) {
    base_ = offset;
    last_piece_ = last;
    where_ = offset;
    ++statistics_.psb;
    source.sync(event_);
    if (searching_) found();
    held_ = true;
    quiet_over();
}

// follows a branch that needs no trace
void Walker::advance(Node& node, Output& out) {
    emit(node, out);
    if (node.flow == Flow::call) stack_.push(node.next, &node);
    go(node.target);
}

// one block and the transfer to the next; `packets`: whether packets may be read
template <class Source>
Walker::Step Walker::step(Source& source, Output& out, bool packets) {
    Node& node = here();
    if (node.flow == Flow::unready && !ready(node)) {
        look_up(source);
        lose(Gap::lost, ip_);
        return Step::lost;
    }
    const Flow flow = node.flow;
    if (flow == Flow::jump || flow == Flow::call) {
        if (is_loop()) {
            look_up(source);
            lose(Gap::lost, ip_);
            return Step::lost;
        }
        advance(node, out);
        return Step::done;
    }
    if (flow == Flow::broken) {
        look_up(source);
        if (node.count != 0)
            emit(node, out);
        else if (gap_ == Gap::none)
            emit_unknown(out);
        lose(node.fault == Fault::unmapped ? Gap::unmapped : Gap::lost, node.next);
        return Step::lost;
    }
    if (!packets) {
        look_up(source);
        lose(Gap::lost, ip_);
        return Step::lost;
    }
    emit(node, out);
    quiet_over();
    int answer = 0;
    uint64_t ip = 0;
    if (flow == Flow::conditional) {
        answer = source.conditional();
        ip = answer == 1 ? node.target : node.next;
    } else if (flow == Flow::ret) {
        answer = source.conditional();
        ReturnStack::Entry entry;
        if (answer == kNoAnswer)
            answer = source.indirect(ip);
        else if (answer == 1 && stack_.pop(entry))
            ip = entry.ip;
        else if (answer >= 0)
            answer = kNoAnswer;  // not a compressed return, or one without a call
    } else {
        answer = source.indirect(ip);
        if (flow == Flow::icall) stack_.push(node.next, &node);
    }
    if (answer < 0) {
        look_up(source);
        lose(Gap::lost, node.last);
        return answer == kBadTrace ? Step::stop : Step::lost;
    }
    go(ip);
    return Step::done;
}

// after an error: passes over packets until one gives an address
template <class Source>
bool Walker::search(Source& source, Output& out) {
    while (searching_) {
        if (source.at_end()) return false;
        if (source.event_pending()) {
            Event event;
            if (source.event(event) < 0) return false;
            look_up(source);
            search_event(event, out);
            continue;
        }
        uint64_t ip = 0;
        int answer = source.conditional();
        if (answer == kNoAnswer) answer = source.indirect(ip);
        if (answer < 0) return false;
    }
    return true;
}

// the last blocks of a stream, as far as the code alone determines them
bool Walker::run_out(Output& out) {
    Node& node = here();
    if ((node.flow != Flow::unready || ready(node)) && node.flow != Flow::broken) {
        if (node.flow == Flow::jump || node.flow == Flow::call) {
            if (!is_loop()) {
                advance(node, out);
                return true;
            }
        } else {
            emit(node, out);
        }
    } else if (node.real_flow == Flow::broken && node.count == 0 && gap_ == Gap::none) {
        emit_unknown(out);
    }
    enabled_ = false;
    return false;
}

// The common case, without events and gaps, for as long as it lasts. Left whole, though long: what it needs at each
// block stays in registers.
template <class Source>
// NOLINTNEXTLINE(readability-function-size)
void Walker::run_fast(Source& source, Output& out) {
    Node* node = &here();
    NodeCache& cache = *cache_;
    const uint64_t mask = mode_ == ptem_64bit ? ~0ull : 0xffffffffull;
    uint32_t* const first = out.ids + out.size;
    uint32_t* const limit = out.ids + out.limit;
    uint32_t* at = first;
    uint32_t* turn = out.turns + out.turned;
    uint64_t instructions = 0;
    uint64_t quiet = quiet_;
    int answer = 0;

    const auto turns = [&] { *turn++ = static_cast<uint32_t>(at - out.ids); };
    const auto done = [&] {
        out.size += static_cast<size_t>(at - first);
        out.turned = static_cast<size_t>(turn - out.turns);
        statistics_.blocks += static_cast<uint64_t>(at - first);
        statistics_.instructions += instructions;
    };
    const auto link = [&](Node*& slot, uint64_t ip) {
        if (slot == nullptr) slot = cache.get(ip & mask);
        return slot;
    };
    while (at != limit && !source.event_pending() && !source.at_end()) {
        Node* next = nullptr;
        uint64_t ip = 0;
        switch (node->flow) {
            case Flow::conditional:
                answer = source.conditional();
                *at++ = node->id;
                instructions += node->count;
                if (answer < 0) break;
                quiet = 0;
                next = answer != 0 ? link(node->after[1], node->target) : link(node->after[0], node->next);
                break;
            case Flow::call:
            case Flow::jump:
                if (quiet + 1 >= kQuiet) goto out;  // perhaps an endless loop: step() finds out
                ++quiet;
                if (node->flow == Flow::call) {
                    stack_.push(node->next, node);
                    turns();
                }
                *at++ = node->id;
                instructions += node->count;
                next = link(node->after[1], node->target);
                break;
            case Flow::ret: {
                turns();
                *at++ = node->id;
                instructions += node->count;
                quiet = 0;
                answer = source.conditional();
                if (answer == 1) {
                    ReturnStack::Entry entry;
                    if (!stack_.pop(entry)) {
                        answer = kNoAnswer;
                        break;
                    }
                    if (entry.caller != nullptr && entry.caller->next == entry.ip)
                        next = link(entry.caller->after[0], entry.ip);
                    else
                        next = cache.get(entry.ip & mask);
                    break;
                }
                if (answer != kNoAnswer) {
                    if (answer == 0) answer = kNoAnswer;
                    break;
                }
            }
                goto indirect;
            case Flow::icall:
            case Flow::indirect:
            case Flow::far:
                turns();
                *at++ = node->id;
                instructions += node->count;
                quiet = 0;
            indirect:
                answer = source.indirect(ip);
                if (answer < 0) break;
                if (node->flow == Flow::icall) stack_.push(node->next, node);
                ip &= mask;
                if (node->seen == nullptr || node->seen_ip != ip) {
                    node->seen = cache.get(ip);
                    node->seen_ip = ip;
                }
                next = node->seen;
                break;
            case Flow::unready:
                if (ready(*node)) continue;
                [[fallthrough]];
            case Flow::broken:
                careful_ = true;
                goto out;
        }
        if (next == nullptr) {
            done();
            node_ = node;
            ip_ = from_ = node->start;
            quiet_over();
            look_up(source);
            lose(Gap::lost, node->last);
            return;
        }
        node = next;
        if (cache.full()) break;
    }
out:
    done();
    if (at != first) from_ = node->start;
    node_ = node;
    ip_ = node->start;
    quiet_ = quiet;
}

template <class Source>
Stop Walker::run(Source& source, Output& out) {
    for (;;) {
        if (out.full()) return Stop::full;
        make_room();
        if (!held_ && searching_) {
            if (search(source, out)) continue;
            return Stop::end;
        }
        if (!held_ && source.event_pending()) {
            if (source.event(event_) < 0) {
                look_up(source);
                lose(Gap::lost, enabled_ ? ip_ : 0);
                return Stop::end;
            }
            held_ = true;
            quiet_over();
        }
        if (doubt_) {
            look_up(source);
            settle_doubt(held_ ? event_.type : EventType::none);
            if (!held_) continue;
        }
        if (held_) {
            look_up(source);
            const Settled settled = settle(out);
            held_ = settled == Settled::walk;
            if (!held_) quiet_over();
            if (settled == Settled::lost) lose(Gap::lost, enabled_ ? ip_ : 0);
            if (settled != Settled::walk) continue;
            const bool mode = event_.type == EventType::exec_mode;
            if (mode && source.at_end()) {
                held_ = false;
                set_mode(event_.mode);
                continue;
            }
            const Step done = step(source, out, mode);
            if (done == Step::done) continue;
            held_ = false;
            if (done == Step::stop) return Stop::end;
            if (event_.type == EventType::sync) {
                // PSB+ gives the address
                found();
                resume(event_.ip);
                set_mode(event_.mode);
            }
            continue;
        }
        if (!enabled_) {
            if (source.at_end()) return Stop::end;
            look_up(source);
            lose(Gap::lost, 0);
            continue;
        }
        if (source.at_end()) {
            if (!last_piece_ || !run_out(out)) return Stop::end;
            continue;
        }
        if (gap_ != Gap::none || careful_ || quiet_ + 1 >= kQuiet) {
            careful_ = false;
            const Step done = step(source, out, true);
            if (done == Step::stop) return Stop::end;
            continue;
        }
        run_fast(source, out);
    }
}

template void Walker::begin(const PlainSource&, uint64_t, bool);
template void Walker::begin(const QuerySource&, uint64_t, bool);
template Stop Walker::run(PlainSource&, Output&);
template Stop Walker::run(QuerySource&, Output&);

}  // namespace barnum
