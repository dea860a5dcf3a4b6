// The extension barnum._contexts: arrays in, arrays out.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <memory>

#include "contexts.hpp"
#include "edges.hpp"
#include "loops.hpp"

namespace nb = nanobind;

namespace {

template <typename T>
using Array = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Bytes = nb::ndarray<nb::numpy, uint8_t, nb::ndim<2>>;

// arrays of one run; they must outlive what is made of them
struct Arrays {
    Array<int32_t> site;
    Array<uint64_t> token;
    Array<uint8_t> rank;
    Array<bool> first;
    Array<bool> wanted;

    barnum::Run run() const {
        const size_t size = site.shape(0);
        if (token.shape(0) != size || rank.shape(0) != size || first.shape(0) != size || wanted.shape(0) != size) {
            throw nb::value_error("site, token, rank, first and wanted are of different lengths");
        }
        return {site.data(), token.data(), rank.data(), first.data(), wanted.data(), size};
    }
};

Bytes bytes_of(std::unique_ptr<uint8_t[]> data, size_t rows, size_t columns) {
    uint8_t* raw = data.release();
    nb::capsule owner(raw, [](void* p) noexcept { delete[] static_cast<uint8_t*>(p); });
    return Bytes(raw, {rows, columns}, owner);
}

nb::tuple look_up(const barnum::Contexts& self, Array<int32_t> site, Array<uint64_t> token, Array<uint8_t> rank,
                  Array<bool> first, Array<bool> wanted, const barnum::Contexts* own) {
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
    return nb::make_tuple(bytes_of(std::move(best), rows, columns), bytes_of(std::move(level), rows, columns),
                          bytes_of(std::move(further), rows, barnum::FURTHER),
                          bytes_of(std::move(further_level), rows, barnum::FURTHER));
}

// the vector becomes the array's memory
template <typename T>
nb::ndarray<nb::numpy, T, nb::ndim<1>> moved(std::vector<T>& values) {
    auto* owned = new std::vector<T>(std::move(values));
    nb::capsule owner(owned, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
    return nb::ndarray<nb::numpy, T, nb::ndim<1>>(owned->data(), {owned->size()}, owner);
}

void add_edges(barnum::EdgeCounter& self, Array<uint64_t> sites, Array<uint64_t> targets, Array<uint8_t> kinds,
               Array<uint32_t> source, Array<uint32_t> target, Array<bool> first, Array<int32_t> entry) {
    const size_t blocks = sites.shape(0), size = source.shape(0);
    if (targets.shape(0) != blocks || kinds.shape(0) != blocks) {
        throw nb::value_error("sites, targets and kinds are of different lengths");
    }
    if (target.shape(0) != size || first.shape(0) != size || entry.shape(0) != size) {
        throw nb::value_error("source, target, first and entry are of different lengths");
    }
    nb::gil_scoped_release release;
    self.add({sites.data(), targets.data(), kinds.data(), blocks},
             {source.data(), target.data(), first.data(), entry.data(), size});
}

nb::tuple edges_done(barnum::EdgeCounter& self) {
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
        return nb::make_tuple(moved(columns.site), moved(columns.target), moved(columns.entry),
                              moved(columns.first));
    };
    return nb::make_tuple(edges(counts.whole), ways(counts.ways), edges(counts.edges_of_stretches),
                          ways(counts.ways_of_stretches), moved(counts.transfers), moved(counts.edges),
                          moved(counts.entered));
}

}  // namespace

NB_MODULE(_contexts, module) {
    nb::class_<barnum::Contexts>(module, "Contexts")
        .def(nb::init<std::vector<uint32_t>>(), nb::arg("lengths"))
        .def(
            "add",
            [](barnum::Contexts& self, Array<int32_t> site, Array<uint64_t> token, Array<uint8_t> rank,
               Array<bool> first, Array<bool> wanted) {
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
            [](barnum::Loops& self, Array<uint64_t> key, Array<bool> restart) {
                const size_t size = key.shape(0);
                if (restart.shape(0) != size) throw nb::value_error("key and restart are of different lengths");
                std::unique_ptr<bool[]> keep(new bool[size]);
                {
                    nb::gil_scoped_release release;
                    self.mark(key.data(), restart.data(), size, keep.get());
                }
                bool* raw = keep.release();
                nb::capsule owner(raw, [](void* p) noexcept { delete[] static_cast<bool*>(p); });
                return nb::ndarray<nb::numpy, bool, nb::ndim<1>>(raw, {size}, owner);
            },
            nb::arg("key"), nb::arg("restart"));
    nb::class_<barnum::EdgeCounter>(module, "EdgeCounter")
        .def(nb::init<>())
        .def("add", &add_edges, nb::arg("sites"), nb::arg("targets"), nb::arg("kinds"), nb::arg("source"),
             nb::arg("target"), nb::arg("first"), nb::arg("entry"))
        .def("done", &edges_done);
    module.def(
        "distinct",
        [](Array<uint64_t> values) {
            barnum::Distinct found;
            {
                nb::gil_scoped_release release;
                found = barnum::distinct(values.data(), values.shape(0));
            }
            return nb::make_tuple(moved(found.values), moved(found.place));
        },
        nb::arg("values"));
    module.def(
        "places_of",
        [](Array<uint64_t> known, Array<uint64_t> values) {
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
