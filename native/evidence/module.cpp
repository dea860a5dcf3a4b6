// The extension barnum._evidence: steps in, transfers that do not fit out.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <memory>
#include <optional>
#include <vector>

#include "../common/arrays.hpp"
#include "watch.hpp"

namespace nb = nanobind;

using barnum::InArray;
using barnum::OutArray;
using barnum::Watch;

namespace {

void extend(Watch& self, InArray<uint64_t> start, InArray<uint64_t> after, InArray<uint64_t> site,
            InArray<uint64_t> target, InArray<uint32_t> function, InArray<uint16_t> process, InArray<uint8_t> role,
            InArray<uint8_t> trait) {
    const size_t count = start.shape(0);
    for (const size_t size : {after.shape(0), site.shape(0), target.shape(0), function.shape(0), process.shape(0),
                              role.shape(0), trait.shape(0)}) {
        if (size != count) throw nb::value_error("the columns are of different lengths");
    }
    const barnum::WatchedBlocks blocks{start.data(),   after.data(), site.data(),  target.data(), function.data(),
                                       process.data(), role.data(),  trait.data(), count};
    nb::gil_scoped_release release;
    self.extend(blocks);
}

void check_sizes(const InArray<uint32_t>& block, const InArray<uint8_t>& gap, const InArray<uint16_t>& stream) {
    const size_t count = block.shape(0);
    if (gap.shape(0) != count || stream.shape(0) != count) {
        throw nb::value_error("block, gap and stream are of different lengths");
    }
}

void check_block(const Watch& self, uint32_t block) {
    if (block >= self.blocks()) throw nb::index_error("a step names a block that is not in the table");
}

void check(const Watch& self, const InArray<uint32_t>& block, const InArray<uint8_t>& gap,
           const InArray<uint16_t>& stream) {
    check_sizes(block, gap, stream);
    const size_t count = block.shape(0);
    uint32_t highest = 0;
    for (size_t i = 0; i < count; ++i) highest = std::max(highest, block.data()[i]);
    if (count != 0) check_block(self, highest);
}

void add(Watch& self, InArray<uint32_t> block, InArray<uint8_t> gap, InArray<uint16_t> stream,
         std::optional<InArray<uint32_t>> turns) {
    nb::gil_scoped_release release;
    check_sizes(block, gap, stream);
    barnum::WatchedSteps steps{block.data(), gap.data(), stream.data(), block.shape(0)};
    if (!turns) {
        check(self, block, gap, stream);
    } else {
        // of no turns at all the array may have no memory
        static const uint32_t none = 0;
        steps.turns = turns->shape(0) != 0 ? turns->data() : &none;
        steps.turned = turns->shape(0);
        if (!barnum::are_turns(steps.turns, steps.turned, steps.count)) {
            throw nb::index_error("turns are no steps in their order");
        }
        // only what is looked at need be known
        self.pick(steps);
        uint32_t highest = 0;
        for (const uint32_t at : self.picked()) {
            const uint32_t* const here = steps.block + at;
            highest = std::max(highest, here[0]);
            if (at >= 1) highest = std::max(highest, here[-1]);
            if (at >= 2) highest = std::max(highest, here[-2]);
        }
        if (steps.count != 0) check_block(self, highest);
        for (const size_t before : {1, 2}) {
            if (steps.count >= before) check_block(self, steps.block[steps.count - before]);
        }
    }
    self.add(steps, nullptr);
}

OutArray<uint8_t> judge(Watch& self, InArray<uint32_t> block, InArray<uint8_t> gap, InArray<uint16_t> stream) {
    check(self, block, gap, stream);
    const size_t count = block.shape(0);
    std::unique_ptr<uint8_t[]> verdicts(new uint8_t[count]());
    self.add({block.data(), gap.data(), stream.data(), count}, verdicts.get());
    return barnum::array_of(std::move(verdicts), count);
}

nb::list notes(const Watch& self) {
    nb::list rows;
    for (const auto& each : self.notes()) {
        rows.append(nb::make_tuple(static_cast<int>(each.kind), each.source, each.target, each.step, each.count,
                                   barnum::copied(each.functions)));
    }
    return rows;
}

nb::list endings(const Watch& self) {
    nb::list rows;
    for (const auto& each : self.endings()) {
        rows.append(nb::make_tuple(each.stream, each.source, each.target, each.step, each.transfer));
    }
    return rows;
}

nb::tuple reached(const Watch& self) {
    std::vector<uint32_t> block, from;
    std::vector<uint64_t> step;
    for (size_t i = 0; i < self.reached_from().size(); ++i) {
        if (self.reached_from()[i] == Watch::kNobody) continue;
        block.push_back(static_cast<uint32_t>(i));
        from.push_back(self.reached_from()[i]);
        step.push_back(self.reached_at()[i]);
    }
    return nb::make_tuple(barnum::moved(block), barnum::moved(from), barnum::moved(step));
}

nb::tuple returns(const Watch& self) {
    using barnum::Verdict;
    return nb::make_tuple(self.verdicts(Verdict::matched), self.verdicts(Verdict::unwound),
                          self.verdicts(Verdict::unknown), self.verdicts(Verdict::elsewhere),
                          self.verdicts(Verdict::resumed));
}

}  // namespace

NB_MODULE(_evidence, module) {
    nb::class_<Watch>(module, "Watch")
        .def(nb::init<>())
        .def("__len__", &Watch::blocks)
        .def("extend", &extend, nb::arg("start"), nb::arg("after"), nb::arg("site"), nb::arg("target"),
             nb::arg("function"), nb::arg("process"), nb::arg("role"), nb::arg("trait"))
        .def("add", &add, nb::arg("block"), nb::arg("gap"), nb::arg("stream"), nb::arg("turns") = nb::none())
        .def("judge", &judge, nb::arg("block"), nb::arg("gap"), nb::arg("stream"))
        .def("finish", &Watch::finish)
        .def("notes", &notes)
        .def("endings", &endings)
        .def("reached", &reached)
        .def_prop_ro("returns", &returns)
        .def_prop_ro("further", &Watch::further)
        .def_prop_ro("exhausted", &Watch::exhausted);
    module.attr("MOST_NOTES") = Watch::kMostNotes;
}
