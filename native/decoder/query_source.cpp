#include "query_source.hpp"

#include <new>

namespace barnum {

bool QuerySource::open(const pt_config& model, const uint8_t* begin, const uint8_t* end) {
    close();
    pt_config config = model;
    // libipt only reads; its header has no const
    config.begin = const_cast<uint8_t*>(begin);
    config.end = const_cast<uint8_t*>(end);
    decoder_ = pt_qry_alloc_decoder(&config);
    if (decoder_ == nullptr) throw std::bad_alloc();
    truncated_ = false;
    ip_ = 0;
    const int status = pt_qry_sync_set(decoder_, &ip_, 0);
    if (status < 0) {
        truncated_ = status == -pte_eos;
        status_ = pts_eos;
        return false;
    }
    has_ip_ = (status & pts_ip_suppressed) == 0;
    status_ = status;
    return true;
}

void QuerySource::close() {
    if (decoder_ != nullptr) pt_qry_free_decoder(decoder_);
    decoder_ = nullptr;
}

bool QuerySource::sync(Event& event) const {
    event = Event{};
    event.type = EventType::sync;
    event.has_ip = has_ip_;
    event.ip = ip_;
    return true;
}

int QuerySource::answer(int status) {
    if (status >= 0) {
        status_ = status;
        return 0;
    }
    if (status == -pte_bad_query) return kNoAnswer;
    truncated_ = status == -pte_eos;
    return kBadTrace;
}

int QuerySource::conditional() {
    int taken = 0;
    const int result = answer(pt_qry_cond_branch(decoder_, &taken));
    return result < 0 ? result : taken;
}

int QuerySource::indirect(uint64_t& ip) {
    const int status = pt_qry_indirect_branch(decoder_, &ip);
    const int result = answer(status);
    if (result < 0) return result;
    return (status & pts_ip_suppressed) != 0 ? kBadTrace : 0;
}

uint64_t QuerySource::offset() const {
    uint64_t offset = 0;
    if (decoder_ == nullptr || pt_qry_get_offset(decoder_, &offset) < 0) return 0;
    return offset;
}

int QuerySource::event(Event& out) {
    pt_event event;
    const int result = answer(pt_qry_event(decoder_, &event, sizeof(event)));
    if (result < 0) return kBadTrace;
    out = Event{};
    out.has_ip = event.ip_suppressed == 0;
    out.status_update = event.status_update != 0;
    switch (event.type) {
        // from 2.1 on libipt reports after each PSB+ whether tracing is on, which sync() has reported
        case ptev_enabled:
            out.type = out.status_update ? EventType::other : EventType::enabled;
            out.ip = event.variant.enabled.ip;
            break;
        case ptev_disabled:
            out.type = out.status_update ? EventType::other : EventType::disabled;
            out.ip = event.variant.disabled.ip;
            break;
        case ptev_async_disabled:
            out.type = EventType::async_disabled;
            out.at = event.variant.async_disabled.at;
            out.ip = event.variant.async_disabled.ip;
            break;
        case ptev_async_branch:
            out.type = EventType::async_branch;
            out.at = event.variant.async_branch.from;
            out.ip = event.variant.async_branch.to;
            break;
        case ptev_overflow:
            out.type = EventType::overflow;
            out.ip = event.variant.overflow.ip;
            break;
        case ptev_exec_mode:
            out.type = EventType::exec_mode;
            out.mode = event.variant.exec_mode.mode;
            out.ip = event.variant.exec_mode.ip;
            break;
        case ptev_mnt:
            out.type = EventType::epoch;
            out.payload = event.variant.mnt.payload;
            break;
        default:
            out.type = EventType::other;
            break;
    }
    return 0;
}

}  // namespace barnum
