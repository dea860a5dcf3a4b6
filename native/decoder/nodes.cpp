#include "nodes.hpp"

#include <algorithm>

namespace barnum {

void NodeCache::grow() {
    std::vector<Slot> slots(slots_.size() * 2);
    const size_t mask = slots.size() - 1;
    for (const Slot& slot : slots_) {
        if (slot.node == nullptr) continue;
        size_t at = hash_ip(slot.ip) & mask;
        while (slots[at].node != nullptr) at = (at + 1) & mask;
        slots[at] = slot;
    }
    slots_.swap(slots);
}

void NodeCache::flush() {
    std::vector<Slot>(1 << 12).swap(slots_);
    dependents_.clear();
    nodes_.clear();
}

void NodeCache::load(Node& node, CodeView& view, CodeReader& reader, pt_exec_mode mode) {
    reader.read(view, mode, node.start, block_);
    block_fresh_ = true;
    node.after[0] = node.after[1] = node.seen = nullptr;
    node.seen_ip = 0;
    node.next = block_.next;
    node.target = block_.target;
    node.id = BlockTable::kNone;
    node.count = static_cast<uint32_t>(block_.sizes.size());
    node.flow = Flow::unready;
    node.real_flow = block_.flow;
    node.kind = block_.kind;
    node.fault = block_.fault;
    node.last = block_.last;
    // a block that ran into missing code depends on the page it missed as well
    const uint64_t end = block_.fault == Fault::none ? block_.next - 1 : block_.next + pt_max_insn_size;
    for (uint64_t p = std::max(page_of(node.start), node.watched); p <= page_of(end); ++p) {
        if (view.space().records_of(p) != nullptr) dependents_[p].push_back(&node);
        node.watched = p + 1;
    }
}

void NodeCache::changed(uint64_t address, uint64_t size) {
    block_fresh_ = false;
    const uint64_t last = address + (size - 1);
    for (uint64_t p = page_of(address); p <= page_of(last); ++p) {
        const auto found = dependents_.find(p);
        if (found == dependents_.end()) continue;
        for (Node* node : found->second) {
            const uint64_t end = node->fault == Fault::none ? node->next : node->next + pt_max_insn_size;
            if (node->start > last || end <= address) continue;
            node->flow = Flow::unready;
            node->real_flow = Flow::unready;
        }
    }
}

}  // namespace barnum
