// The extension barnum._rote: arrays in, arrays out.
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <memory>
#include <numeric>

#include "../common/arrays.hpp"
#include "counts.hpp"
#include "rote.hpp"

namespace nb = nanobind;

using barnum::array_of;
using barnum::copied;
using barnum::InArray;
using barnum::moved;
using barnum::OutArray;

namespace {

void roll(barnum::Walk& self, InArray<uint64_t> sites, InArray<uint64_t> targets, InArray<uint32_t> source,
          InArray<uint32_t> target, InArray<bool> first) {
    const size_t blocks = sites.shape(0), size = source.shape(0);
    if (targets.shape(0) != blocks) throw nb::value_error("sites and targets are of different lengths");
    if (target.shape(0) != size || first.shape(0) != size) {
        throw nb::value_error("source, target and first are of different lengths");
    }
    nb::gil_scoped_release release;
    for (const InArray<uint32_t>* which : {&source, &target}) {
        const uint32_t* begin = which->data();
        if (std::any_of(begin, begin + size, [&](uint32_t block) { return block >= blocks; })) {
            throw std::out_of_range("a transfer names a block that is not in the table");
        }
    }
    self.roll({sites.data(), targets.data(), blocks, source.data(), target.data(), first.data(), size});
}

barnum::Escapes escapes_of(const barnum::Rote& self, InArray<double> tried, InArray<double> escaped,
                           InArray<double> base) {
    barnum::Escapes escapes(self.lengths().size());
    if (tried.shape(0) != escapes.tried.size() || escaped.shape(0) != escapes.tried.size() || base.shape(0) != 2) {
        throw nb::value_error("escapes are of other lengths");
    }
    std::copy_n(tried.data(), tried.shape(0), escapes.tried.begin());
    std::copy_n(escaped.data(), escaped.shape(0), escapes.escaped.begin());
    std::copy_n(base.data(), 2, escapes.base.begin());
    return escapes;
}

struct Columns {
    explicit Columns(size_t size)
        : size(size),
          predicted(new uint64_t[size]),
          confidence(new float[size]),
          correct(new bool[size]),
          surprisal(new float[size]) {}
    barnum::Scores scores() { return {predicted.get(), confidence.get(), correct.get(), surprisal.get()}; }
    nb::tuple tuple() {
        return nb::make_tuple(array_of(std::move(predicted), size), array_of(std::move(confidence), size),
                              array_of(std::move(correct), size), array_of(std::move(surprisal), size));
    }
    size_t size;
    std::unique_ptr<uint64_t[]> predicted;
    std::unique_ptr<float[]> confidence;
    std::unique_ptr<bool[]> correct;
    std::unique_ptr<float[]> surprisal;
};

void check(const barnum::Rote& self, const barnum::Walk& walk) {
    if (walk.longest() < self.lengths().back()) throw nb::value_error("the walk remembers too little");
}

nb::tuple score(const barnum::Rote& self, const barnum::Walk& walk, size_t threads) {
    check(self, walk);
    Columns columns(walk.size());
    {
        nb::gil_scoped_release release;
        self.score(walk, threads, columns.scores());
    }
    return columns.tuple();
}

nb::tuple escapes(const barnum::Rote& self, barnum::Walk& walk, size_t threads) {
    check(self, walk);
    barnum::Escapes escapes(self.lengths().size());
    {
        nb::gil_scoped_release release;
        self.count_escapes(walk, threads, escapes);
    }
    return nb::make_tuple(moved(escapes.tried), moved(escapes.escaped),
                          copied(std::vector<double>(escapes.base.begin(), escapes.base.end())));
}

OutArray<double> chances(const barnum::Rote& self, const barnum::Walk& walk, size_t threads, InArray<int64_t> at,
                         InArray<uint64_t> token) {
    check(self, walk);
    const size_t size = at.shape(0);
    if (token.shape(0) != size) throw nb::value_error("places and targets are of different lengths");
    std::unique_ptr<double[]> values(new double[size]);
    {
        nb::gil_scoped_release release;
        if (std::any_of(at.data(), at.data() + size,
                        [&](int64_t place) { return place < 0 || static_cast<uint64_t>(place) >= walk.size(); })) {
            throw std::out_of_range("no such transfer");
        }
        self.chances(walk, threads, at.data(), token.data(), size, values.get());
    }
    return array_of(std::move(values), size);
}

nb::tuple draw(const barnum::Rote& self, const barnum::Walk& walk, size_t threads, uint64_t seed, uint64_t offset) {
    check(self, walk);
    Columns columns(walk.size());
    {
        nb::gil_scoped_release release;
        self.score(walk, threads, columns.scores());
        self.draw(walk, seed, offset, columns.scores());
    }
    return columns.tuple();
}

// contexts of one length by key, with where their followers begin, and these by token
nb::tuple counts(const barnum::Rote& self, size_t order) {
    if (order >= self.lengths().size()) throw nb::index_error("no such order");
    barnum::Counts counts;
    std::vector<uint64_t> token;
    {
        nb::gil_scoped_release release;
        const std::vector<uint32_t> place = barnum::places_of(self.targets());
        counts = barnum::counts_of(self.table(order), place);
        std::vector<uint64_t> sorted(place.size());
        for (size_t i = 0; i < place.size(); ++i) sorted[place[i]] = self.targets()[i];
        token.reserve(counts.follower.size());
        for (const uint32_t at : counts.follower) token.push_back(sorted[at]);
    }
    return nb::make_tuple(moved(counts.key), moved(counts.first), moved(token), moved(counts.count));
}

// the same of all lengths, with numbers of followers and places of targets
nb::list all_counts(const barnum::Rote& self, size_t threads) {
    std::vector<barnum::Counts> all;
    std::vector<std::vector<uint32_t>> followers;
    {
        nb::gil_scoped_release release;
        all = barnum::counts_of(self, threads);
        for (const barnum::Counts& counts : all) {
            std::vector<uint32_t>& sizes = followers.emplace_back(counts.key.size());
            for (size_t i = 0; i < sizes.size(); ++i) {
                sizes[i] = static_cast<uint32_t>(counts.first[i + 1] - counts.first[i]);
            }
        }
    }
    nb::list lengths;
    for (size_t i = 0; i < all.size(); ++i) {
        lengths.append(
            nb::make_tuple(moved(all[i].key), moved(followers[i]), moved(all[i].follower), moved(all[i].count)));
    }
    return lengths;
}

void add_counts(barnum::Rote& self, size_t order, InArray<uint64_t> key, InArray<uint64_t> first,
                InArray<uint64_t> token, InArray<uint32_t> count) {
    if (order >= self.lengths().size()) throw nb::index_error("no such order");
    if (order >= self.kept() && key.shape(0) != 0) throw nb::value_error("contexts of that length are forgotten");
    const size_t size = key.shape(0), followers = token.shape(0);
    bool whole = first.shape(0) == size + 1 && count.shape(0) == followers && first.data()[0] == 0 &&
                 first.data()[size] == followers;
    for (size_t i = 0; whole && i < size; ++i) {
        whole = first.data()[i] < first.data()[i + 1] && first.data()[i + 1] <= followers && key.data()[i] != 0;
    }
    if (!whole || std::find(count.data(), count.data() + followers, 0u) != count.data() + followers) {
        throw nb::value_error("counts contradict themselves");
    }
    nb::gil_scoped_release release;
    std::vector<uint32_t> number(followers);
    for (size_t i = 0; i < followers; ++i) number[i] = self.number(token.data()[i]);
    barnum::Table& table = self.table(order);
    for (size_t i = 0; i < size; ++i) {
        for (size_t at = first.data()[i]; at < first.data()[i + 1]; ++at) {
            table.add(key.data()[i], number[at], count.data()[at], self.targets().data());
        }
    }
}

}  // namespace

NB_MODULE(_rote, m) {
    m.attr("TIMES") = barnum::TIMES;
    m.attr("SPREADS") = barnum::SPREADS;
    nb::class_<barnum::Walk>(m, "Walk")
        .def(nb::init<uint32_t>(), nb::arg("longest"))
        .def("roll", &roll, nb::arg("sites"), nb::arg("targets"), nb::arg("source"), nb::arg("target"),
             nb::arg("first"))
        .def("__len__", &barnum::Walk::size);
    nb::class_<barnum::Rote>(m, "Rote")
        .def(nb::init<std::vector<uint32_t>>(), nb::arg("lengths"))
        .def_prop_ro("lengths", [](const barnum::Rote& self) { return self.lengths(); })
        .def_prop_ro(
            "targets", [](const barnum::Rote& self) { return copied(self.targets()); }, nb::rv_policy::move)
        .def_prop_ro("contexts", &barnum::Rote::contexts)
        .def_prop_ro("bytes", &barnum::Rote::bytes)
        .def_prop_ro("kept", &barnum::Rote::kept)
        .def("bytes_with", &barnum::Rote::bytes_with, nb::arg("transfers"), nb::arg("at_once"))
        .def(
            "add",
            [](barnum::Rote& self, barnum::Walk& walk, size_t threads) {
                check(self, walk);
                nb::gil_scoped_release release;
                self.add(walk, threads);
            },
            nb::arg("walk"), nb::arg("threads"))
        .def("score", &score, nb::arg("walk"), nb::arg("threads"))
        .def("chances", &chances, nb::arg("walk"), nb::arg("threads"), nb::arg("at"), nb::arg("token"))
        .def("escapes", &escapes, nb::arg("walk"), nb::arg("threads"))
        .def("draw", &draw, nb::arg("walk"), nb::arg("threads"), nb::arg("seed"), nb::arg("offset"))
        .def(
            "settle",
            [](barnum::Rote& self, InArray<double> tried, InArray<double> escaped, InArray<double> base) {
                self.settle(escapes_of(self, tried, escaped, base));
            },
            nb::arg("tried"), nb::arg("escaped"), nb::arg("base"))
        .def("keep", &barnum::Rote::keep, nb::arg("lengths"), nb::call_guard<nb::gil_scoped_release>())
        .def("counts", &counts, nb::arg("order"))
        .def("all_counts", &all_counts, nb::arg("threads"))
        .def("add_counts", &add_counts, nb::arg("order"), nb::arg("key"), nb::arg("first"), nb::arg("token"),
             nb::arg("count"));
}
