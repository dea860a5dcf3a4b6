// A variable-order back-off model: what followed each context of several lengths, and how far that holds.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "table.hpp"

namespace barnum {

// no context may be longer
constexpr uint32_t LONGEST = uint32_t{1} << 20;

// tokens of a file may have been chosen to collide
struct Hash {
    size_t operator()(uint64_t token) const noexcept { return secret_place(token, SIZE_MAX); }
};
using TargetNumbers = std::unordered_map<uint64_t, uint32_t, Hash>;

// transfers of a run, and what their blocks are called
struct Transfers {
    const uint64_t* site_token;    // of each block of the table
    const uint64_t* target_token;  // likewise
    size_t blocks;
    const uint32_t* source;  // blocks of each transfer
    const uint32_t* target;
    const bool* first;  // no context reaches back over this transfer
    size_t size;
};

// The contexts of one run, stretch by stretch. A context is a site and the transfers before it: the hash of a
// polynomial of their tokens modulo a prime.
class Walk {
public:
    // throws std::invalid_argument for more than LONGEST
    explicit Walk(uint32_t longest);
    void roll(const Transfers& transfers);

    size_t size() const { return place_.size(); }
    uint32_t longest() const { return longest_; }
    uint32_t reach(size_t at) const { return place_[at].reach; }
    uint64_t target(size_t at) const { return place_[at].target; }
    // of the context of so many transfers; never 0
    uint64_t key(size_t at, uint32_t length) const;

    // Transfers of the stretch that have the longest context and the target in common have all contexts in
    // common: one of them, the first, stands for so many.
    struct Group {
        size_t at;
        uint32_t times;
    };
    // of all transfers of the stretch, in the order of the first ones
    const std::vector<Group>& groups();

private:
    struct Place {
        uint64_t site;    // hash
        uint64_t target;  // token
        uint32_t reach;   // transfers before it that a context may hold, at most `longest`
    };

    uint32_t longest_;
    std::vector<uint64_t> power_;
    std::vector<uint64_t> prefix_;  // of all transfers so far: `longest` before the stretch, and those in it
    std::vector<Place> place_;
    uint32_t since_ = 0;
    std::vector<Group> groups_;
    bool grouped_ = false;
};

// classes of how often a context was met, and of how many targets followed it
constexpr size_t TIMES = 13;
constexpr size_t SPREADS = 9;

// How often the target was none that had followed a context, by the context's length and class: separately
// where a longer context is known, which had no such follower either.
struct Escapes {
    explicit Escapes(size_t lengths) : tried(2 * lengths * TIMES * SPREADS), escaped(tried.size()) {}
    std::vector<double> tried;
    std::vector<double> escaped;
    std::array<double, 2> base{};  // the same where no context is left: targets that no site led to
};

struct Scores {
    uint64_t* predicted;  // token
    float* confidence;
    bool* correct;
    float* surprisal;  // nats
};

class Rote {
public:
    // lengths ascend from 0 to LONGEST at most
    explicit Rote(std::vector<uint32_t> lengths);

    // by so many threads, each of which adds contexts of one length at a time
    void add(Walk& walk, size_t threads);
    void score(const Walk& walk, size_t threads, const Scores& scores) const;
    void count_escapes(Walk& walk, size_t threads, Escapes& escapes) const;
    // of targets at some of the transfers
    void chances(const Walk& walk, size_t threads, const int64_t* at, const uint64_t* token, size_t size,
                 double* chances) const;
    // predictions drawn in proportion to what followed the longest known context
    void draw(const Walk& walk, uint64_t seed, uint64_t offset, const Scores& scores) const;
    void settle(const Escapes& escapes);

    // contexts are forgotten for good, but for those of so many lengths, the shortest; throws
    // std::invalid_argument for none
    void keep(size_t orders);
    size_t kept() const { return kept_; }
    // the most bytes while so many transfers more are added, and contexts of so many lengths at once
    size_t bytes_with(size_t more, size_t at_once) const;
    size_t bytes() const;
    size_t contexts() const;

    const std::vector<uint32_t>& lengths() const { return lengths_; }
    const std::vector<uint64_t>& targets() const { return tokens_; }
    Table& table(size_t order) { return tables_[order]; }
    const Table& table(size_t order) const { return tables_[order]; }
    uint32_t number(uint64_t token);  // of a target, which becomes known

private:
    class Scorer;
    void check_settled() const;

    std::vector<uint32_t> lengths_;
    std::vector<Table> tables_;
    size_t kept_;  // lengths that are counted; tables of the others are empty
    std::vector<uint64_t> tokens_;
    TargetNumbers numbers_;
    // after settle()
    std::vector<double> escape_;
    double fresh_ = 1;
    std::vector<uint32_t> led_;  // sites that led to each target
    uint64_t all_led_ = 0;
    std::vector<uint32_t> by_token_;
    std::vector<uint32_t> by_led_;  // those that most sites led to first
};

}  // namespace barnum
