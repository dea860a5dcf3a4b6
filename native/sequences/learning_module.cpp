// What learning counts in barnum._sequences: contexts, distinct transfers, rounds of loops.
#include "learning_module.hpp"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "../common/arrays.hpp"
#include "contexts.hpp"
#include "edges.hpp"
#include "loops.hpp"
#include "transfers.hpp"

namespace nb = nanobind;

using barnum::array_of;
using barnum::InArray;
using barnum::moved;

namespace {

// arrays of one run; they must outlive what is made of them
struct Arrays {
    InArray<int32_t> site;
    InArray<uint64_t> token;
    InArray<uint8_t> rank;
    InArray<bool> first;
    InArray<bool> wanted;

    barnum::Run run() const {
        const size_t size = site.shape(0);
        if (token.shape(0) != size || rank.shape(0) != size || first.shape(0) != size || wanted.shape(0) != size) {
            throw nb::value_error("site, token, rank, first and wanted are of different lengths");
        }
        return {site.data(), token.data(), rank.data(), first.data(), wanted.data(), size};
    }
};

nb::tuple look_up(const barnum::Contexts& self, InArray<int32_t> site, InArray<uint64_t> token, InArray<uint8_t> rank,
                  InArray<bool> first, InArray<bool> wanted, const barnum::Contexts* own) {
    const Arrays arrays{site, token, rank, first, wanted};
    const barnum::Run run = arrays.run();
    if (own != nullptr && own->lengths() != self.lengths()) {
        throw nb::value_error("own counts contexts of other lengths");
    }
    const size_t columns = self.lengths().size();
    const size_t rows = static_cast<size_t>(std::count(run.wanted, run.wanted + run.size, true));
    std::unique_ptr<uint8_t[]> best(new uint8_t[rows * columns]);
    std::unique_ptr<uint8_t[]> level(new uint8_t[rows * columns]);
    std::unique_ptr<uint8_t[]> further(new uint8_t[rows * barnum::FURTHER]);
    std::unique_ptr<uint8_t[]> further_level(new uint8_t[rows * barnum::FURTHER]);
    {
        nb::gil_scoped_release release;
        self.look_up(run, own, best.get(), level.get(), further.get(), further_level.get());
    }
    return nb::make_tuple(array_of(std::move(best), rows, columns), array_of(std::move(level), rows, columns),
                          array_of(std::move(further), rows, barnum::FURTHER),
                          array_of(std::move(further_level), rows, barnum::FURTHER));
}

void add_edges(barnum::EdgeCounter& self, InArray<uint64_t> sites, InArray<uint64_t> targets, InArray<uint8_t> kinds,
               InArray<uint32_t> source, InArray<uint32_t> target, InArray<bool> first, InArray<int32_t> entry,
               std::optional<InArray<uint64_t>> position) {
    const size_t blocks = sites.shape(0), size = source.shape(0);
    if (targets.shape(0) != blocks || kinds.shape(0) != blocks) {
        throw nb::value_error("sites, targets and kinds are of different lengths");
    }
    if (target.shape(0) != size || first.shape(0) != size || entry.shape(0) != size) {
        throw nb::value_error("source, target, first and entry are of different lengths");
    }
    if (position && position->shape(0) != size) throw nb::value_error("position is of another length");
    nb::gil_scoped_release release;
    self.add({sites.data(), targets.data(), kinds.data(), blocks},
             {source.data(), target.data(), reinterpret_cast<const uint8_t*>(first.data()), entry.data(), size,
              position ? position->data() : nullptr});
}

template <typename Counter>
nb::tuple edges_done(Counter& self) {
    barnum::RunCounts counts;
    {
        nb::gil_scoped_release release;
        counts = self.done();
    }
    const auto edges = [](barnum::EdgeColumns& columns) {
        return nb::make_tuple(moved(columns.site), moved(columns.target), moved(columns.kind), moved(columns.count),
                              moved(columns.first));
    };
    const auto ways = [](barnum::WayColumns& columns) {
        return nb::make_tuple(moved(columns.site), moved(columns.target), moved(columns.entry), moved(columns.first));
    };
    return nb::make_tuple(edges(counts.whole), ways(counts.ways), edges(counts.edges_of_stretches),
                          ways(counts.ways_of_stretches), moved(counts.transfers), moved(counts.edges),
                          moved(counts.entered), moved(counts.steps));
}

barnum::Steps steps_of(const InArray<uint32_t>& block, const InArray<uint8_t>& gap,
                       const std::optional<InArray<uint32_t>>& turns) {
    if (gap.shape(0) != block.shape(0)) throw nb::value_error("block and gap are of different lengths");
    barnum::Steps steps{block.data(), gap.data(), block.shape(0)};
    if (turns) {
        // of no turns at all the array may have no memory
        static const uint32_t none = 0;
        steps.turns = turns->shape(0) != 0 ? turns->data() : &none;
        steps.turned = turns->shape(0);
    }
    return steps;
}

nb::tuple filtered(barnum::TransferFilter& self, InArray<uint8_t> roles, InArray<uint32_t> block, InArray<uint8_t> gap,
                   std::optional<InArray<uint32_t>> turns) {
    const barnum::Steps steps = steps_of(block, gap, turns);
    barnum::TransferColumns found;
    {
        nb::gil_scoped_release release;
        found = self.add(roles.data(), roles.shape(0), steps);
    }
    return nb::make_tuple(moved(found.source), moved(found.target), moved(found.position), moved(found.first),
                          moved(found.entry));
}

barnum::OutArray<uint64_t> counted(barnum::TransferCounter& self, InArray<uint8_t> roles, InArray<uint64_t> sites,
                                   InArray<uint64_t> targets, InArray<uint8_t> kinds, InArray<uint32_t> block,
                                   InArray<uint8_t> gap, std::optional<InArray<uint32_t>> turns) {
    const size_t blocks = roles.shape(0);
    if (sites.shape(0) != blocks || targets.shape(0) != blocks || kinds.shape(0) != blocks) {
        throw nb::value_error("roles, sites, targets and kinds are of different lengths");
    }
    const barnum::Steps steps = steps_of(block, gap, turns);
    std::vector<uint64_t> position;
    {
        nb::gil_scoped_release release;
        const barnum::TransferColumns& found =
            self.add(roles.data(), {sites.data(), targets.data(), kinds.data(), blocks}, steps);
        position.assign(found.position.begin(), found.position.begin() + static_cast<ptrdiff_t>(found.count));
    }
    return moved(position);
}

}  // namespace

void bind_learning(nb::module_& module) {
    nb::class_<barnum::Contexts>(module, "Contexts")
        .def(nb::init<std::vector<uint32_t>>(), nb::arg("lengths"))
        .def(
            "add",
            [](barnum::Contexts& self, InArray<int32_t> site, InArray<uint64_t> token, InArray<uint8_t> rank,
               InArray<bool> first, InArray<bool> wanted) {
                const Arrays arrays{site, token, rank, first, wanted};
                const barnum::Run run = arrays.run();
                nb::gil_scoped_release release;
                self.add(run);
            },
            nb::arg("site"), nb::arg("token"), nb::arg("rank"), nb::arg("first"), nb::arg("wanted"))
        .def("look_up", &look_up, nb::arg("site"), nb::arg("token"), nb::arg("rank"), nb::arg("first"),
             nb::arg("wanted"), nb::arg("own") = nb::none())
        .def_prop_ro("contexts", &barnum::Contexts::contexts)
        .def_prop_ro("bytes", &barnum::Contexts::bytes);
    nb::class_<barnum::Loops>(module, "Loops")
        .def(
            "__init__",
            [](barnum::Loops* self, uint32_t rounds) {
                if (rounds < 1) throw nb::value_error("at least 1 round");
                new (self) barnum::Loops(rounds);
            },
            nb::arg("rounds"))
        .def(
            "mark",
            [](barnum::Loops& self, InArray<uint64_t> key, InArray<bool> restart) {
                const size_t size = key.shape(0);
                if (restart.shape(0) != size) throw nb::value_error("key and restart are of different lengths");
                std::unique_ptr<bool[]> keep(new bool[size]);
                {
                    nb::gil_scoped_release release;
                    self.mark(key.data(), restart.data(), size, keep.get());
                }
                return array_of(std::move(keep), size);
            },
            nb::arg("key"), nb::arg("restart"));
    nb::class_<barnum::EdgeCounter>(module, "EdgeCounter")
        .def(nb::init<>())
        .def("add", &add_edges, nb::arg("sites"), nb::arg("targets"), nb::arg("kinds"), nb::arg("source"),
             nb::arg("target"), nb::arg("first"), nb::arg("entry"), nb::arg("position") = nb::none())
        .def("done", &edges_done<barnum::EdgeCounter>);
    nb::class_<barnum::TransferFilter>(module, "TransferFilter")
        .def(
            "__init__",
            [](barnum::TransferFilter* self, InArray<bool> restart) {
                if (restart.shape(0) != 256) throw nb::value_error("restart tells of 256 causes of gaps");
                new (self) barnum::TransferFilter(restart.data());
            },
            nb::arg("restart"))
        .def("add", &filtered, nb::arg("roles"), nb::arg("block"), nb::arg("gap"), nb::arg("turns") = nb::none());
    nb::class_<barnum::TransferCounter>(module, "TransferCounter")
        .def(
            "__init__",
            [](barnum::TransferCounter* self, InArray<bool> restart) {
                if (restart.shape(0) != 256) throw nb::value_error("restart tells of 256 causes of gaps");
                new (self) barnum::TransferCounter(restart.data());
            },
            nb::arg("restart"))
        .def("add", &counted, nb::arg("roles"), nb::arg("sites"), nb::arg("targets"), nb::arg("kinds"),
             nb::arg("block"), nb::arg("gap"), nb::arg("turns") = nb::none())
        .def("done", &edges_done<barnum::TransferCounter>);
    module.def(
        "distinct",
        [](InArray<uint64_t> values) {
            barnum::Distinct result;
            {
                nb::gil_scoped_release release;
                result = barnum::distinct(values.data(), values.shape(0));
            }
            return nb::make_tuple(moved(result.values), moved(result.place));
        },
        nb::arg("values"));
    module.def(
        "places_of",
        [](InArray<uint64_t> known, InArray<uint64_t> values) {
            std::vector<int64_t> places;
            {
                nb::gil_scoped_release release;
                places = barnum::places_of(known.data(), known.shape(0), values.data(), values.shape(0));
            }
            return moved(places);
        },
        nb::arg("known"), nb::arg("values"));
    module.attr("REACH") = barnum::REACH;
    module.attr("STRETCHES") = barnum::STRETCHES;
    module.attr("FURTHER") = barnum::FURTHER;
    module.attr("LEVELS") = barnum::LEVELS;
}
