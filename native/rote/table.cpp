#include "table.hpp"

#include <algorithm>
#include <bit>

namespace barnum {

namespace {

constexpr size_t SMALLEST = 64;
constexpr uint64_t FACTOR = 0x9E3779B97F4A7C15ull;

// at most three quarters of the places are taken
size_t places_for(size_t entries) { return std::max(SMALLEST, std::bit_ceil(entries + entries / 3 + 1)); }

uint32_t sum(uint32_t a, uint32_t b) { return a > UINT32_MAX - b ? UINT32_MAX : a + b; }

uint64_t place_of(uint64_t context, uint32_t target) { return mixed(context ^ (target + 1) * FACTOR) | 1; }

}  // namespace

Table::Table() : slots_(SMALLEST), mask_(SMALLEST - 1) {}

Context& Table::at(uint64_t key) {
    for (size_t at = place(key);; at = (at + 1) & mask_) {
        Context& here = slots_[at];
        if (here.key == key) return here;
        if (here.key != 0) continue;
        if (places_for(used_ + 1) > slots_.size()) {
            grow();
            return this->at(key);
        }
        ++used_;
        here.key = key;
        return here;
    }
}

void Table::grow() {
    std::vector<Context> larger(slots_.size() * 2);
    const size_t mask = larger.size() - 1;
    for (const Context& context : slots_) {
        if (context.key == 0) continue;
        size_t at = secret_place(context.key, mask);
        while (larger[at].key != 0) at = (at + 1) & mask;
        larger[at] = context;
    }
    slots_ = std::move(larger);
    mask_ = mask;
}

void Table::grow_index() {
    std::vector<Place> larger(std::max(SMALLEST, index_.size() * 2));
    const size_t mask = larger.size() - 1;
    for (const Place& place : index_) {
        if (place.key == 0) continue;
        size_t at = secret_place(place.key, mask);
        while (larger[at].key != 0) at = (at + 1) & mask;
        larger[at] = place;
    }
    index_ = std::move(larger);
}

void Table::index(const Context& context, uint32_t follower) {
    if (index_.empty() || places_for(indexed_ + 1) > index_.size()) grow_index();
    const size_t mask = index_.size() - 1;
    const uint64_t key = place_of(context.key, followers_[follower].target);
    size_t at = secret_place(key, mask);
    while (index_[at].key != 0) at = (at + 1) & mask;
    index_[at] = {key, follower};
    ++indexed_;
}

uint32_t Table::find_follower(const Context& context, uint32_t target) const {
    const Follower& head = followers_[context.list];
    if (head.count > WIDE) {
        const size_t mask = index_.size() - 1;
        const uint64_t key = place_of(context.key, target);
        for (size_t at = secret_place(key, mask); index_[at].key != 0; at = (at + 1) & mask) {
            if (index_[at].key == key && followers_[index_[at].follower].target == target) {
                return index_[at].follower;
            }
        }
        return NONE;
    }
    for (uint32_t at = head.next; at != NONE; at = followers_[at].next) {
        if (followers_[at].target == target) return at;
    }
    return NONE;
}

uint32_t Table::count_of_rest(const Context& context, uint32_t target) const {
    const uint32_t at = find_follower(context, target);
    return at == NONE ? 0 : followers_[at].count;
}

void Table::new_list(Context& context) {
    context.list = static_cast<uint32_t>(followers_.size());
    followers_.push_back({0, 0, NONE});
    new_follower(context, context.top);
}

uint32_t Table::new_follower(const Context& context, uint32_t target) {
    const auto number = static_cast<uint32_t>(followers_.size());
    followers_.push_back({target, 0, followers_[context.list].next});
    Follower& head = followers_[context.list];
    head.next = number;
    ++head.count;
    if (head.count == WIDE + 1) {  // it has become wide
        for (uint32_t at = number; at != NONE; at = followers_[at].next) index(context, at);
    } else if (head.count > WIDE + 1) {
        index(context, number);
    }
    return number;
}

void Table::add(uint64_t key, uint32_t target, uint32_t times, const uint64_t* tokens) {
    Context& context = at(key);
    if (context.count == 0) {
        context.top = target;
        context.count = times;
        return;
    }
    if (context.top == target) {
        context.count = sum(context.count, times);
        return;
    }
    if (context.list == NONE) new_list(context);
    uint32_t number = find_follower(context, target);
    if (number == NONE) number = new_follower(context, target);
    Follower& follower = followers_[number];
    follower.count = sum(follower.count, times);
    context.rest = sum(context.rest, times);
    const bool more = follower.count > context.count;
    if (!more && !(follower.count == context.count && tokens[target] < tokens[context.top])) return;
    // it is the most frequent one now
    followers_[find_follower(context, context.top)].count = context.count;
    context.rest = context.rest - follower.count + context.count;
    context.count = follower.count;
    context.top = target;
}

size_t Table::bytes() const {
    return slots_.capacity() * sizeof(Context) + followers_.capacity() * sizeof(Follower) +
           index_.capacity() * sizeof(Place);
}

Table::Need Table::with(size_t more) const {
    const auto grown = [](size_t places, size_t now) { return places > now ? Need{places, places / 2} : Need{now, 0}; };
    const Need slots = grown(places_for(used_ + more), slots_.size());
    // a list begins with a head and the first follower; vectors double
    const size_t entries = followers_.size() + 3 * more;
    size_t capacity = followers_.capacity();
    while (capacity < entries) capacity += std::max<size_t>(capacity, 1);
    const Need lists = grown(capacity, followers_.capacity());
    // A list that becomes wide goes to the index as a whole: those that are there now by one follower more, at
    // best; others, of a context with one follower, by as many as a list that is not wide has.
    const size_t lying = followers_.size() - indexed_;
    const size_t indexed = indexed_ + std::min((WIDE + 1) * more, lying + more + more / WIDE);
    const Need index = indexed > 0 ? grown(places_for(indexed), index_.size()) : Need{index_.size(), 0};
    // one of them grows after the other: both copies are there meanwhile
    return {
        slots.bytes * sizeof(Context) + lists.bytes * sizeof(Follower) + index.bytes * sizeof(Place),
        std::max({slots.growing * sizeof(Context), lists.growing * sizeof(Follower), index.growing * sizeof(Place)})};
}

}  // namespace barnum
