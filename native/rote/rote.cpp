#include "rote.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include "../common/threads.hpp"

namespace barnum {

namespace {

constexpr size_t AHEAD = 16;       // contexts whose places are fetched before they are needed
constexpr size_t PIECE = 1 << 14;  // transfers that a thread scores at once
constexpr size_t SMALL = 1 << 12;  // transfers that are not worth a thread
constexpr size_t FEW = 1 << 9;     // groups of transfers that are not worth one
// bytes of a target, its number, and what is made of it
constexpr size_t TARGET = sizeof(uint64_t) + 48;
constexpr size_t MOST_TARGETS = size_t{1} << 31;
constexpr uint64_t MOST_TIMES = uint64_t{1} << 33;
// of a context with more followers than this only the most frequent one may be predicted
constexpr uint32_t COMPARED = 64;

size_t class_of(uint64_t times) {
    // 1, 2, 3–4, 5–8 …
    return std::min<size_t>(std::bit_width(times - 1), TIMES - 1);
}

size_t cell_of(size_t order, bool after, size_t lengths, uint64_t times, uint32_t spread) {
    const size_t row = (after ? lengths : 0) + order;
    return (row * TIMES + class_of(times)) * SPREADS + std::min<size_t>(spread, SPREADS) - 1;
}

// calls work(thread, next) in several threads: next() says where the next piece begins that is to be done
template <typename Work>
void in_pieces(size_t size, size_t piece, size_t threads, Work work) {
    threads = std::max<size_t>(1, std::min(threads, (size + piece - 1) / piece));
    std::atomic<size_t> begun{0};
    in_threads(threads, threads, [&](size_t thread) { work(thread, [&] { return piece * begun++; }); });
}

// a small cache of the numbers of targets: the same ones come again and again
class Numbers {
public:
    explicit Numbers(const TargetNumbers& all) : all_(all), token_(SIZE), number_(SIZE, NONE) {}

    // NONE: not known
    uint32_t operator()(uint64_t token) {
        const size_t at = mixed(token) & (SIZE - 1);
        if (number_[at] != NONE && token_[at] == token) return number_[at];
        const auto found = all_.find(token);
        if (found == all_.end()) return NONE;
        token_[at] = token;
        return number_[at] = found->second;
    }

private:
    static constexpr size_t SIZE = 1 << 12;
    const TargetNumbers& all_;
    std::vector<uint64_t> token_;
    std::vector<uint32_t> number_;
};

}  // namespace

Rote::Rote(std::vector<uint32_t> lengths)
    : lengths_(std::move(lengths)), tables_(lengths_.size()), kept_(lengths_.size()) {
    if (lengths_.empty() || lengths_[0] != 0 || !std::is_sorted(lengths_.begin(), lengths_.end()) ||
        std::adjacent_find(lengths_.begin(), lengths_.end()) != lengths_.end()) {
        throw std::invalid_argument("lengths ascend from 0");
    }
    if (lengths_.back() > LONGEST) throw std::invalid_argument("contexts are too long");
    settle(Escapes(lengths_.size()));
}

uint32_t Rote::number(uint64_t token) {
    const auto [found, added] = numbers_.try_emplace(token, static_cast<uint32_t>(tokens_.size()));
    if (added) {
        if (tokens_.size() >= MOST_TARGETS) throw std::length_error("too many targets");
        tokens_.push_back(token);
    }
    return found->second;
}

void Rote::add(Walk& walk, size_t threads) {
    const std::vector<Walk::Group>& groups = walk.groups();
    const size_t size = groups.size();
    std::vector<uint32_t> numbers(size);
    Numbers known(numbers_);
    for (size_t i = 0; i < size; ++i) {
        const uint64_t target = walk.target(groups[i].at);
        numbers[i] = known(target);
        if (numbers[i] == NONE) numbers[i] = number(target);
    }
    // the longest contexts first, for they take longest
    in_threads(size < FEW ? 1 : threads, kept_, [&](size_t turn) {
        const size_t order = kept_ - 1 - turn;
        Table& table = tables_[order];
        const uint32_t length = lengths_[order];
        uint64_t keys[AHEAD];
        for (size_t i = 0; i < size + AHEAD; ++i) {
            uint64_t& key = keys[i % AHEAD];
            if (i >= AHEAD && walk.reach(groups[i - AHEAD].at) >= length) {
                table.add(key, numbers[i - AHEAD], groups[i - AHEAD].times, tokens_.data());
            }
            if (i < size && walk.reach(groups[i].at) >= length) {
                table.prefetch(key = walk.key(groups[i].at, length));
            }
        }
    });
}

void Rote::settle(const Escapes& escapes) {
    // (escaped + 1/2) / (tried + 1/(2m)), where m is the share in the row, got from its half in the same way
    const size_t cells = TIMES * SPREADS, rows = 2 * lengths_.size();
    escape_.assign(rows * cells, 0);
    for (size_t half = 0; half < 2; ++half) {
        const auto total = [&](size_t begin, size_t count, const std::vector<double>& of) {
            double sum = 0;
            for (size_t i = begin * cells; i < (begin + count) * cells; ++i) sum += of[i];
            return sum;
        };
        const size_t first = half * lengths_.size();
        const double all =
            (total(first, lengths_.size(), escapes.escaped) + 0.5) / (total(first, lengths_.size(), escapes.tried) + 1);
        for (size_t row = first; row < first + lengths_.size(); ++row) {
            const double share =
                std::min(1.0, (total(row, 1, escapes.escaped) + 0.5) / (total(row, 1, escapes.tried) + 0.5 / all));
            for (size_t i = row * cells; i < (row + 1) * cells; ++i) {
                const double chance = (escapes.escaped[i] + 0.5) / (escapes.tried[i] + 0.5 / share);
                // nothing is impossible, and nothing that was met is
                escape_[i] = std::clamp(chance, 1e-9, 1 - 1e-6);
            }
        }
    }
    fresh_ = (escapes.base[1] + 0.5) / (escapes.base[0] + 1);
    led_.assign(tokens_.size(), 0);
    tables_[0].each_context(
        [&](const Context& context) { tables_[0].each(context, [&](uint32_t target, uint32_t) { ++led_[target]; }); });
    all_led_ = std::accumulate(led_.begin(), led_.end(), uint64_t{0});
    by_token_.resize(tokens_.size());
    std::iota(by_token_.begin(), by_token_.end(), 0);
    std::sort(by_token_.begin(), by_token_.end(), [&](uint32_t a, uint32_t b) { return tokens_[a] < tokens_[b]; });
    by_led_ = by_token_;
    std::stable_sort(by_led_.begin(), by_led_.end(), [&](uint32_t a, uint32_t b) { return led_[a] > led_[b]; });
}

// scores transfers one by one
class Rote::Scorer {
public:
    Scorer(const Rote& rote, const Walk& walk, const Scores& scores)
        : rote_(rote), walk_(walk), scores_(scores), known_(rote.numbers_) {}

    void score(size_t begin, size_t end) {
        for (size_t i = begin; i < end; ++i) {
            if (i + AHEAD < end) fetch(i + AHEAD);
            const Prediction prediction = predict(i, known_(walk_.target(i)));
            scores_.predicted[i] = rote_.tokens_.empty() ? 0 : rote_.tokens_[prediction.predicted];
            scores_.correct[i] = prediction.correct;
            scores_.confidence[i] = static_cast<float>(std::clamp(prediction.confidence, 0.0, 1.0));
            scores_.surprisal[i] = static_cast<float>(std::max(0.0, -std::log(std::max(prediction.chance, 1e-300))));
        }
    }

    void count_escapes(const std::vector<Walk::Group>& groups, size_t begin, size_t end, Escapes& escapes) {
        for (size_t i = begin; i < end; ++i) {
            if (i + AHEAD < end) fetch(groups[i + AHEAD].at);
            predict(groups[i].at, known_(walk_.target(groups[i].at)), &escapes, groups[i].times);
        }
    }

    // of a target instead of the one that followed
    double chance(size_t at, uint64_t token) { return std::clamp(predict(at, known_(token)).chance, 0.0, 1.0); }

private:
    struct Prediction {
        uint32_t predicted;
        bool correct;
        double confidence;
        double chance;  // of the actual target
    };

    void fetch(size_t at) const {
        // most of the time the longest context is known
        const size_t order = usable(at) - 1;
        rote_.tables_[order].prefetch(walk_.key(at, rote_.lengths_[order]));
    }

    // how many of the lengths fit before a transfer
    size_t usable(size_t at) const {
        const std::vector<uint32_t>& lengths = rote_.lengths_;
        if (walk_.reach(at) >= lengths[rote_.kept_ - 1]) return rote_.kept_;
        const auto end = lengths.begin() + static_cast<ptrdiff_t>(rote_.kept_);
        return static_cast<size_t>(std::upper_bound(lengths.begin(), end, walk_.reach(at)) - lengths.begin());
    }

    const Context* find(size_t at, size_t order) const {
        return rote_.tables_[order].find(walk_.key(at, rote_.lengths_[order]));
    }

    // the longest context that is known, and its order + 1; a context is known where a longer one is
    size_t longest(size_t at, const Context*& found) const {
        size_t high = usable(at), low = 0;
        found = find(at, high - 1);
        if (found != nullptr) return high;
        for (--high; low < high;) {
            const size_t middle = (low + high) / 2;
            const Context* here = find(at, middle);
            if (here != nullptr) {
                found = here;
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        return low;
    }

    // with `escapes`, counts there those of so many equal transfers
    Prediction predict(size_t at, uint32_t actual, Escapes* escapes = nullptr, uint32_t alike = 1) {
        const Context* context;
        size_t orders = longest(at, context);
        double left = 1;    // chance of all that no context so far has led to
        double chance = 0;  // of what happened
        bool met = false;   // a context has led to it
        bool done = false;  // nothing more can be added to its chance
        double confidence = -1;
        uint32_t predicted = 0;
        bool after = false;
        excluded_ = 0;
        mixed_ = false;
        levels_.clear();
        nominated_.clear();
        while (orders-- > 0) {
            if (context == nullptr) context = find(at, orders);
            if (context == nullptr) continue;  // only where a file lacks contexts
            const Table& table = rote_.tables_[orders];
            const uint32_t distinct = table.distinct(*context);
            uint64_t times = uint64_t{context->count} + context->rest;
            if (excluded_ >= distinct) {  // it leads to nothing else
                context = nullptr;
                continue;
            }
            for (uint32_t i = 0; i < excluded_; ++i) times -= table.count(*context, exclude_[i]);
            if (times == 0 || times > MOST_TIMES) {  // counts that overflowed say nothing
                context = nullptr;
                continue;
            }
            const uint32_t count = done || actual == NONE ? 0 : table.count(*context, actual);
            const size_t cell = cell_of(orders, after, rote_.lengths_.size(), times, distinct - excluded_);
            if (escapes != nullptr && !met) {
                escapes->tried[cell] += alike;
                if (count == 0) escapes->escaped[cell] += alike;
            }
            const double stays = left * (1 - rote_.escape_[cell]) / static_cast<double>(times);
            if (!done) chance += stays * count;
            const bool wide = distinct > WIDE;
            mixed_ = mixed_ || wide;
            levels_.push_back({&table, context, stays, wide});
            if (mixed_) {
                nominate(table, *context, distinct);
            } else {
                offer(table, *context, stays, predicted, confidence);
            }
            left *= rote_.escape_[cell];
            met = met || count != 0;
            if (!wide) {
                excluded_ = 0;
                table.each(*context, [&](uint32_t target, uint32_t) { exclude_[excluded_++] = target; });
                done = done || met;
            }
            if (done && !mixed_ && left <= confidence) break;
            after = true;
            context = nullptr;
        }
        if (!done || mixed_ || left > confidence) {
            if (escapes != nullptr && !met) {
                escapes->base[0] += alike;
                if (actual == NONE) escapes->base[1] += alike;
            }
            base(actual, left, done, chance, predicted, confidence);
        }
        return {predicted, actual == predicted && !rote_.tokens_.empty(), confidence, chance};
    }

    bool is_excluded(uint32_t target) const {
        return std::find(exclude_, exclude_ + excluded_, target) != exclude_ + excluded_;
    }

    // the most frequent follower that is left may be the likeliest target
    void offer(const Table& table, const Context& context, double stays, uint32_t& predicted,
               double& confidence) const {
        uint32_t best = context.top, count = context.count;
        if (stays * count <= confidence) return;
        if (excluded_ != 0 && is_excluded(best)) {
            count = 0;
            table.each(context, [&](uint32_t target, uint32_t times) {
                const bool more = times > count || (times == count && rote_.tokens_[target] < rote_.tokens_[best]);
                if (more && !is_excluded(target)) best = target, count = times;
            });
        }
        if (count == 0 || stays * count <= confidence) return;
        predicted = best;
        confidence = stays * count;
    }

    // targets by how many sites lead to them, and any other target
    void base(uint32_t actual, double left, bool done, double& chance, uint32_t& predicted, double& confidence) {
        uint64_t all = rote_.all_led_;
        for (uint32_t i = 0; i < excluded_; ++i) all -= rote_.led_[exclude_[i]];
        const double fresh = all == 0 ? 1 : rote_.fresh_;
        const double stays = all == 0 ? 0 : left * (1 - fresh) / static_cast<double>(all);
        if (!done) chance += actual == NONE ? left * fresh : stays * rote_.led_[actual];
        if (all != 0) {
            // the likeliest that is left
            const auto likeliest = std::find_if(rote_.by_led_.begin(), rote_.by_led_.end(),
                                                [&](uint32_t target) { return !is_excluded(target); });
            if (mixed_) {
                nominated_.push_back(*likeliest);
            } else if (stays * rote_.led_[*likeliest] > confidence) {
                predicted = *likeliest;
                confidence = stays * rote_.led_[predicted];
            }
        }
        for (const uint32_t target : nominated_) {
            const double whole = chance_of(target, stays);
            const bool first = whole == confidence && rote_.tokens_[target] < rote_.tokens_[predicted];
            if (whole > confidence || first) {
                predicted = target;
                confidence = whole;
            }
        }
    }

    // followers of a context that may be the likeliest target, where several contexts have a say
    void nominate(const Table& table, const Context& context, uint32_t distinct) {
        if (distinct > COMPARED) {
            nominated_.push_back(context.top);
            return;
        }
        table.each(context, [&](uint32_t target, uint32_t) { nominated_.push_back(target); });
    }

    // of a target by all contexts that have a say, and by the number of sites that lead to it
    double chance_of(uint32_t target, double stays) const {
        double sum = 0;
        for (const Level& level : levels_) {
            const uint32_t count = level.table->count(*level.context, target);
            sum += level.stays * count;
            if (count != 0 && !level.wide) return sum;
        }
        return sum + stays * rote_.led_[target];
    }

    // a context that was asked
    struct Level {
        const Table* table;
        const Context* context;
        double stays;  // chance of each time that a target followed it
        bool wide;
    };

    const Rote& rote_;
    const Walk& walk_;
    const Scores scores_;
    Numbers known_;
    uint32_t exclude_[WIDE] = {};
    uint32_t excluded_ = 0;
    bool mixed_ = false;  // a wide context was asked
    std::vector<Level> levels_;
    std::vector<uint32_t> nominated_;
};

void Rote::check_settled() const {
    if (led_.size() != tokens_.size()) throw std::logic_error("targets were added: settle first");
}

void Rote::score(const Walk& walk, size_t threads, const Scores& scores) const {
    check_settled();
    in_pieces(walk.size(), PIECE, threads, [&](size_t, const auto& next) {
        Scorer scorer(*this, walk, scores);
        for (size_t begin = next(); begin < walk.size(); begin = next()) {
            scorer.score(begin, std::min(walk.size(), begin + PIECE));
        }
    });
}

void Rote::count_escapes(Walk& walk, size_t threads, Escapes& escapes) const {
    check_settled();
    const std::vector<Walk::Group>& groups = walk.groups();
    const size_t pieces = (groups.size() + FEW - 1) / FEW;
    threads = std::max<size_t>(1, std::min(threads, pieces));
    std::vector<Escapes> counted(threads, Escapes(lengths_.size()));
    in_pieces(groups.size(), FEW, threads, [&](size_t thread, const auto& next) {
        Scorer scorer(*this, walk, {});
        for (size_t begin = next(); begin < groups.size(); begin = next()) {
            scorer.count_escapes(groups, begin, std::min(groups.size(), begin + FEW), counted[thread]);
        }
    });
    // they are whole numbers: any order gives the same sum
    for (const Escapes& part : counted) {
        for (size_t i = 0; i < part.tried.size(); ++i) {
            escapes.tried[i] += part.tried[i];
            escapes.escaped[i] += part.escaped[i];
        }
        for (size_t i = 0; i < 2; ++i) escapes.base[i] += part.base[i];
    }
}

void Rote::chances(const Walk& walk, size_t threads, const int64_t* at, const uint64_t* token, size_t size,
                   double* chances) const {
    check_settled();
    in_threads(size < SMALL ? 1 : threads, (size + PIECE - 1) / PIECE, [&](size_t piece) {
        Scorer scorer(*this, walk, {});
        for (size_t i = piece * PIECE; i < std::min(size, (piece + 1) * PIECE); ++i) {
            chances[i] = scorer.chance(static_cast<size_t>(at[i]), token[i]);
        }
    });
}

void Rote::draw(const Walk& walk, uint64_t seed, uint64_t offset, const Scores& scores) const {
    if (tokens_.empty()) return;
    Numbers known(numbers_);
    std::vector<std::pair<uint64_t, uint32_t>> followers;
    for (size_t i = 0; i < walk.size(); ++i) {
        const uint64_t random = mixed(mixed(seed + 0x9E3779B97F4A7C15ull) + (offset + i) * 0x9E3779B97F4A7C15ull);
        size_t order = kept_ - 1;
        while (walk.reach(i) < lengths_[order]) --order;
        const Context* context = tables_[order].find(walk.key(i, lengths_[order]));
        // in the order of tokens, so that equal counts draw the same
        followers.clear();
        if (context != nullptr) {
            tables_[order].each(
                *context, [&](uint32_t target, uint32_t count) { followers.emplace_back(tokens_[target], count); });
            std::sort(followers.begin(), followers.end());
        }
        uint64_t times = context == nullptr ? tokens_.size() : 0;
        for (const auto& follower : followers) times += follower.second;
        uint64_t at = static_cast<uint64_t>((static_cast<unsigned __int128>(random) * times) >> 64);
        double share = 1 / static_cast<double>(times);
        uint32_t drawn = context == nullptr ? by_token_[at] : 0;
        for (const auto& [token, count] : followers) {
            if (at < count) {
                drawn = numbers_.at(token);
                share = count / static_cast<double>(times);
                break;
            }
            at -= count;
        }
        scores.predicted[i] = tokens_[drawn];
        scores.correct[i] = known(walk.target(i)) == drawn;
        scores.confidence[i] = static_cast<float>(share);
    }
}

void Rote::keep(size_t orders) {
    if (orders == 0) throw std::invalid_argument("sites alone are always kept");
    for (; kept_ > orders; --kept_) tables_[kept_ - 1] = Table();
}

size_t Rote::bytes() const {
    size_t sum = tokens_.size() * TARGET;
    for (const Table& table : tables_) sum += table.bytes();
    return sum;
}

size_t Rote::bytes_with(size_t more, size_t at_once) const {
    size_t sum = (tokens_.size() + more) * TARGET;
    std::vector<size_t> growing;
    for (size_t order = 0; order < tables_.size(); ++order) {
        const Table::Need need = tables_[order].with(order < kept_ ? more : 0);
        sum += need.bytes;
        growing.push_back(need.growing);
    }
    std::sort(growing.rbegin(), growing.rend());
    growing.resize(std::min(growing.size(), at_once));
    return std::accumulate(growing.begin(), growing.end(), sum);
}

size_t Rote::contexts() const {
    size_t sum = 0;
    for (const Table& table : tables_) sum += table.size();
    return sum;
}

}  // namespace barnum
