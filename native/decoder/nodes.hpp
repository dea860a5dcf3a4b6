// Blocks as the walker sees them, linked to the blocks that followed them so far.
#pragma once

#include <cstdint>
#include <deque>
#include <unordered_map>
#include <vector>

#include "address_space.hpp"
#include "block_table.hpp"
#include "code_reader.hpp"

namespace barnum {

struct alignas(64) Node {
    // read at each step: one cache line
    Node* after[2] = {nullptr, nullptr};  // not taken or returned to; taken or direct target
    uint64_t seen_ip = 0;                 // last target of an indirect branch, and its node
    Node* seen = nullptr;
    uint64_t next = 0;    // address after the last instruction
    uint64_t target = 0;  // of a direct branch
    uint32_t id = BlockTable::kNone;
    uint32_t count = 0;
    Flow flow = Flow::unready;
    // read at events only
    Flow real_flow = Flow::unready;  // `flow` stays unready until the block is first met
    Kind kind = Kind::none;
    Fault fault = Fault::none;
    uint64_t start = 0;
    uint64_t last = 0;
    uint64_t watched = 0;  // pages below this one know of the node, from its first on
};

// All nodes of one execution mode. Pointers stay good until flush(): a node whose bytes change is only
// marked unready, and read again when it is next met.
class NodeCache {
public:
    static constexpr size_t kMaxNodes = 1 << 20;

    NodeCache() : slots_(1 << 12) {}
    Node* get(uint64_t ip);
    // reads the code of a node that is not ready; its links are forgotten
    void load(Node& node, CodeView& view, CodeReader& reader, pt_exec_mode mode);
    // the block of a node that is loaded, with the sizes of its instructions
    const CodeBlock& block(const Node& node, CodeView& view, CodeReader& reader, pt_exec_mode mode) {
        if (block_.start != node.start || block_.sizes.size() != node.count || !block_fresh_)
            reader.read(view, mode, node.start, block_);
        block_fresh_ = true;
        return block_;
    }
    bool full() const { return nodes_.size() >= kMaxNodes; }
    void flush();
    void changed(uint64_t address, uint64_t size);

private:
    void grow();
    struct Slot {
        uint64_t ip = 0;
        Node* node = nullptr;
    };
    std::deque<Node> nodes_;
    std::vector<Slot> slots_;
    // nodes that depend on pages whose bytes can change
    std::unordered_map<uint64_t, std::vector<Node*>> dependents_;
    CodeBlock block_;           // the one that was read last
    bool block_fresh_ = false;  // no code has changed since
};

inline uint64_t hash_ip(uint64_t ip) { return (ip * 0x9e3779b97f4a7c15ull) >> 20; }

inline Node* NodeCache::get(uint64_t ip) {
    const size_t mask = slots_.size() - 1;
    size_t at = hash_ip(ip) & mask;
    for (; slots_[at].node != nullptr; at = (at + 1) & mask)
        if (slots_[at].ip == ip) return slots_[at].node;
    nodes_.emplace_back();
    Node* node = &nodes_.back();
    node->start = ip;
    slots_[at] = {ip, node};
    if (nodes_.size() * 2 > slots_.size()) grow();
    return node;
}

}  // namespace barnum
