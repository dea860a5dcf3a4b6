// What followed each context of one length: an open-addressing table of contexts, and lists of followers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../common/hashing.hpp"

namespace barnum {

constexpr uint32_t NONE = UINT32_MAX;
// contexts with more followers than this are wide: their followers are found by an index
constexpr uint32_t WIDE = 8;

// a context, and its most frequent follower (of several the one whose token is the smallest)
struct Context {
    uint64_t key = 0;      // 0: the place is free
    uint32_t top = 0;      // number of a target
    uint32_t count = 0;    // of the top
    uint32_t rest = 0;     // counts of all the others together
    uint32_t list = NONE;  // all followers, where there are several
};

struct Follower {
    uint32_t target;
    uint32_t count;  // that of the top is not up to date
    uint32_t next;
};

class Table {
public:
    Table();

    const Context* find(uint64_t key) const {
        for (size_t at = place(key);; at = (at + 1) & mask_) {
            const Context& here = slots_[at];
            if (here.key == key) return &here;
            if (here.key == 0) return nullptr;
        }
    }
    void prefetch(uint64_t key) const { __builtin_prefetch(&slots_[place(key)]); }

    // a target followed a context so many times more; tokens are those of all targets
    void add(uint64_t key, uint32_t target, uint32_t times, const uint64_t* tokens);
    // how often a target followed a context
    uint32_t count(const Context& context, uint32_t target) const {
        if (context.top == target) return context.count;
        return context.list == NONE ? 0 : count_of_rest(context, target);
    }
    uint32_t distinct(const Context& context) const {
        return context.list == NONE ? 1 : followers_[context.list].count;
    }
    // calls visit(target, count) for each follower
    template <typename Visit>
    void each(const Context& context, Visit visit) const {
        visit(context.top, context.count);
        if (context.list == NONE) return;
        for (uint32_t at = followers_[context.list].next; at != NONE; at = followers_[at].next) {
            if (followers_[at].target != context.top) visit(followers_[at].target, followers_[at].count);
        }
    }
    template <typename Visit>
    void each_context(Visit visit) const {
        for (const Context& context : slots_) {
            if (context.key != 0) visit(context);
        }
    }

    size_t size() const { return used_; }
    size_t bytes() const;
    // the most bytes when so many contexts and followers more were added, and those that it needs besides
    // while it grows
    struct Need {
        size_t bytes;
        size_t growing;
    };
    Need with(size_t more) const;

private:
    size_t place(uint64_t key) const { return secret_place(key, mask_); }

    uint32_t count_of_rest(const Context& context, uint32_t target) const;
    Context& at(uint64_t key);
    uint32_t find_follower(const Context& context, uint32_t target) const;
    uint32_t new_follower(const Context& context, uint32_t target);
    void new_list(Context& context);
    void index(const Context& context, uint32_t follower);
    void grow();
    void grow_index();

    std::vector<Context> slots_;
    size_t mask_;
    size_t used_ = 0;
    // the first entry of a list is its head, whose count is the number of entries after it
    std::vector<Follower> followers_;
    // where followers of wide contexts are: numbers of followers_, by context and target
    struct Place {
        uint64_t key = 0;
        uint32_t follower = 0;
    };
    std::vector<Place> index_;
    size_t indexed_ = 0;
};

}  // namespace barnum
