// The extension barnum._sequences: arrays in, counts out.
#include <memory>

#include "../common/arrays.hpp"
#include "known.hpp"
#include "learning_module.hpp"
#include "targets.hpp"

namespace nb = nanobind;

using barnum::InArray;

namespace {

constexpr uint32_t LONGEST = 1024;

template <typename Counter>
void begin(Counter& self, InArray<uint64_t> bbid, InArray<uint32_t> number, InArray<bool> wanted, InArray<bool> restart,
           bool rows) {
    const size_t size = bbid.shape(0);
    if (number.shape(0) != size || wanted.shape(0) != size) {
        throw nb::value_error("bbid, number and wanted are of different lengths");
    }
    if (restart.shape(0) != 256) throw nb::value_error("restart tells of 256 causes of gaps");
    const barnum::Blocks blocks{bbid.data(), number.data(), wanted.data(), size};
    nb::gil_scoped_release release;
    self.begin(blocks, restart.data(), rows);
}

template <typename Counter>
void add(Counter& self, InArray<uint32_t> block, InArray<uint8_t> gap) {
    const size_t size = block.shape(0);
    if (gap.shape(0) != size) throw nb::value_error("block and gap are of different lengths");
    nb::gil_scoped_release release;
    self.add(block.data(), gap.data(), size);
}

void check_length(uint32_t length) {
    if (length < 1 || length > LONGEST) throw nb::value_error("lengths are 1 to 1024");
}

template <typename Counter>
nb::class_<Counter> counter(nb::module_& module, const char* name) {
    return nb::class_<Counter>(module, name)
        .def("begin", &begin<Counter>, nb::arg("bbid"), nb::arg("number"), nb::arg("wanted"), nb::arg("restart"),
             nb::arg("rows"))
        .def("add", &add<Counter>, nb::arg("block"), nb::arg("gap"))
        .def_prop_ro("bytes", &Counter::bytes);
}

barnum::OutArray<uint64_t, 2> counts(const barnum::Targets& self, size_t most) {
    if (most < 1 || most > 1 << 20) throw nb::value_error("most is 1 to 2^20");
    const size_t lengths = self.longest() - self.shortest() + 1;
    std::unique_ptr<uint64_t[]> numbers(new uint64_t[lengths * most]());
    for (size_t i = 0; i < lengths; ++i) {
        self.level(self.shortest() + static_cast<uint32_t>(i)).count(&numbers[i * most], most);
    }
    return barnum::array_of(std::move(numbers), lengths, most);
}

}  // namespace

NB_MODULE(_sequences, module) {
    counter<barnum::Targets>(module, "Targets")
        .def(
            "__init__",
            [](barnum::Targets* self, uint32_t longest, uint32_t part, uint32_t parts) {
                check_length(longest);
                if (part >= parts) throw nb::value_error("part is below parts");
                new (self) barnum::Targets(longest, part, parts);
            },
            nb::arg("longest"), nb::arg("part") = 0, nb::arg("parts") = 1)
        .def("drop_below", &barnum::Targets::drop_below, nb::arg("length"))
        .def("counts", &counts, nb::arg("most"))
        .def_prop_ro("shortest", &barnum::Targets::shortest);
    counter<barnum::Known>(module, "Known")
        .def(
            "__init__",
            [](barnum::Known* self, uint32_t length) {
                check_length(length);
                new (self) barnum::Known(length);
            },
            nb::arg("length"))
        .def_prop_ro("distinct", &barnum::Known::distinct)
        .def_prop_ro("fresh", &barnum::Known::fresh);
    module.attr("LONGEST") = LONGEST;
    bind_learning(module);
}
