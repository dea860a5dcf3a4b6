// The walker's place in the code, and its output.
#include <algorithm>

#include "walker.hpp"

namespace barnum {

namespace {
pt_exec_mode default_mode(const AddressSpace& space) { return space.mode() == 32 ? ptem_32bit : ptem_64bit; }

int cache_index(pt_exec_mode mode) { return mode == ptem_64bit ? 0 : mode == ptem_32bit ? 1 : 2; }
}  // namespace

Walker::Walker(std::shared_ptr<const AddressSpace> space, std::shared_ptr<BlockTable> table, uint32_t index)
    : view_(std::move(space)), table_(std::move(table)), index_(index) {
    mode_ = default_mode(view_.space());
    cache_ = &caches_[cache_index(mode_)];
}

void Walker::go(uint64_t ip) {
    ip_ = from_ = masked(ip);
    node_ = nullptr;
}

Node& Walker::here() {
    if (node_ == nullptr) node_ = cache_->get(ip_);
    return *node_;
}

bool Walker::load(Node& node) {
    if (node.real_flow == Flow::unready) cache_->load(node, view_, reader_, mode_);
    return node.real_flow != Flow::broken;
}

// prepares a node to be walked: reads its code, and numbers its block
bool Walker::ready(Node& node) {
    load(node);
    const CodeBlock& block = cache_->block(node, view_, reader_, mode_);
    if (!block.sizes.empty()) {
        BlockShape shape;
        shape.start = node.start;
        shape.last = node.last;
        shape.space = index_;
        shape.kind = node.kind;
        shape.sizes = block.sizes.data();
        shape.count = node.count;
        shape.length = block.length();
        node.id = table_->intern(shape);
        if (node.id == BlockTable::kNone) return false;
    }
    node.flow = node.real_flow;
    return true;
}

// whether the walker stands before the instruction at `ip`, without a branch on the way;
// if that is inside of the block, part_ becomes what ran before
bool Walker::reached(uint64_t ip) {
    ip = masked(ip);
    drop_part();
    if (ip < from_) return false;
    if (ip == ip_) {
        part_unknown_ = unknown_here();
        return true;
    }
    Node& node = here();
    load(node);
    const bool past = node.fault == Fault::none ? ip > node.last : ip > node.next;
    if (past) return false;
    CodeBlock part;
    reader_.read(view_, mode_, node.start, part);
    uint64_t at = part.start;
    for (size_t i = 0; i < part.sizes.size(); ++i) {
        if (at == ip) {
            part.sizes.resize(i);
            break;
        }
        part.last = at;
        at += part.sizes[i];
    }
    if (at != ip) return false;
    part_ = std::move(part);
    return true;
}

// whether a transfer led to where no code can be: no image has it, it is no instruction, or its page is not
// executable. Asked where the program was interrupted before it ran anything there
bool Walker::unknown_here() {
    if (gap_ != Gap::none) return false;
    Node& node = here();
    load(node);
    const bool readable = node.real_flow != Flow::broken || node.count != 0;
    return !readable || !view_.space().executable(ip_);
}

void Walker::set_mode(pt_exec_mode mode) {
    mode_after_ = ptem_unknown;
    if (mode == ptem_unknown || mode == mode_) return;
    mode_ = mode;
    cache_ = &caches_[cache_index(mode)];
    node_ = nullptr;
    stack_.forget_nodes();
}

void Walker::set_epoch(uint64_t payload) {
    // larger payloads are not epochs: other software uses MNT too
    if (payload > 0xffffffffull) return;
    const auto epoch = static_cast<uint32_t>(payload);
    if (epoch == view_.epoch()) return;
    const uint32_t before = view_.epoch();  // minmax returns references, which must stay valid
    const auto [low, high] = std::minmax(epoch, before);
    const auto& records = view_.space().records();
    auto record = std::upper_bound(records.begin(), records.end(), low,
                                   [](uint32_t e, const CodeRecord& r) { return e < r.epoch; });
    for (; record != records.end() && record->epoch <= high; ++record) {
        for (auto& cache : caches_) cache.changed(record->address, record->data.size());
        code_changed_ = true;
    }
    view_.set_epoch(epoch);
    ++statistics_.epochs;
}

// drops all nodes when there are too many, which only a hostile trace causes
void Walker::make_room() {
    if (!cache_->full()) return;
    cache_->flush();
    stack_.forget_nodes();
    node_ = nullptr;
    quiet_mark_ = nullptr;
}

void Walker::emit(const Node& node, Output& out) {
    out.turns[out.turned++] = static_cast<uint32_t>(out.size);
    out.ids[out.size] = node.id;
    out.gaps[out.size] = static_cast<uint8_t>(gap_);
    ++out.size;
    gap_ = Gap::none;
    ++statistics_.blocks;
    statistics_.instructions += node.count;
}

// a step to ip_, where no code is known; the caller has room for it
bool Walker::emit_unknown(Output& out) {
    BlockShape shape;
    shape.start = shape.last = ip_;
    shape.space = index_;
    shape.kind = Kind::unknown;
    Node node;
    node.id = table_->intern(shape);
    if (node.id == BlockTable::kNone) return false;
    emit(node, out);
    ++statistics_.unknown;
    return true;
}

// the part of a block that ran before it was interrupted; the caller has room for one step
bool Walker::emit_part(Output& out) {
    if (!has_part()) return false;
    if (part_unknown_) {
        drop_part();
        const Gap after = gap_;
        gap_ = part_gap_;
        const bool emitted = emit_unknown(out);
        gap_ = after;
        return emitted;
    }
    BlockShape shape;
    shape.start = part_.start;
    shape.last = part_.last;
    shape.space = index_;
    shape.kind = Kind::none;
    shape.sizes = part_.sizes.data();
    shape.count = static_cast<uint32_t>(part_.sizes.size());
    shape.length = part_.length();
    part_.sizes.clear();
    Node node;
    node.id = table_->intern(shape);
    node.count = shape.count;
    if (node.id == BlockTable::kNone) return false;
    const Gap after = gap_;
    gap_ = part_gap_;
    emit(node, out);
    gap_ = after;
    return true;
}

// the walker is before the instruction that reached() was asked for: what ran of its block is kept until the block
// goes on or not
void Walker::cut() {
    if (!has_part()) return;
    part_gap_ = gap_;
    gap_ = Gap::none;
}

// the interruption is over, and the block goes on
void Walker::join() {
    if (!has_part()) return;
    drop_part();
    gap_ = part_gap_;
}

void Walker::set_gap(Gap gap) {
    // of several causes of one gap the first counts, but a loss counts more than an interruption
    const auto serious = [](Gap g) { return g == Gap::overflow || g == Gap::lost || g == Gap::unmapped; };
    if (gap_ == Gap::none || (gap_ != Gap::start && !serious(gap_) && serious(gap))) gap_ = gap;
}

void Walker::detail(Gap cause, uint64_t address) {
    if (details_.size() < kMaxDetails) details_.push_back({statistics_.blocks + has_part(), cause, where_, address, 0});
}

void Walker::lose(Gap cause, uint64_t address) {
    ++statistics_.errors;
    if (cause == Gap::unmapped) {
        ++statistics_.unmapped;
        const uint64_t page = page_of(address) << kPageBits;
        const auto found = unmapped_.find(page);
        if (found != unmapped_.end())
            ++found->second;
        else if (unmapped_.size() < kMaxUnmapped)
            unmapped_.emplace(page, 1);
    }
    if (!losing_) {
        losing_ = true;
        lost_from_ = where_;
        lost_detail_ = details_.size();
    }
    detail(cause, address);
    set_gap(cause);
    enabled_ = false;
    async_ = false;
    off_ = Gap::lost;
    stack_.clear();
    searching_ = true;
    doubt_ = false;
}

// the walker knows its place again
void Walker::found() {
    searching_ = false;
    if (!losing_) return;
    losing_ = false;
    const uint64_t lost = where_ > lost_from_ ? where_ - lost_from_ : 0;
    statistics_.bytes_lost += lost;
    if (lost_detail_ < details_.size()) details_[lost_detail_].bytes_lost = lost;
}

void Walker::resume(uint64_t ip) {
    set_mode(mode_after_);
    enabled_ = true;
    async_ = false;
    quiet_over();
    go(ip);
}

// counts a step without a packet; whether there is a loop among those since the last packet (Brent's algorithm)
bool Walker::is_loop() {
    const Node* node = &here();
    if (node == quiet_mark_) return true;
    if (++quiet_ >= quiet_next_) {
        quiet_next_ *= 2;
        quiet_mark_ = node;
    }
    return false;
}

void Walker::lose_bytes(uint64_t offset) {
    where_ = offset;
    held_ = false;
    lose(Gap::lost, enabled_ ? ip_ : 0);
}

void Walker::finish(uint64_t offset, Output& out) {
    where_ = offset;
    found();
    emit_part(out);
}

}  // namespace barnum
