// The extension barnum._decoder: packets in, numbers of blocks out.
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

#include "../common/arrays.hpp"
#include "address_space.hpp"
#include "baseline.hpp"
#include "block_table.hpp"
#include "decoder.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace barnum {
namespace {

// steps that one call gives at most: bounds its memory, whatever the limit asked for
constexpr size_t kMaxRead = 1 << 24;
constexpr uint64_t kMaxAddresses = 1ull << 32;

using CpuTuple = std::optional<std::tuple<int, int, int>>;

// the contiguous buffer of a Python object
class Bytes {
public:
    explicit Bytes(nb::handle object) {
        if (PyObject_GetBuffer(object.ptr(), &view_, PyBUF_SIMPLE) != 0) throw nb::python_error();
    }
    ~Bytes() { PyBuffer_Release(&view_); }
    Bytes(const Bytes&) = delete;
    Bytes& operator=(const Bytes&) = delete;
    const uint8_t* data() const { return static_cast<const uint8_t*>(view_.buf); }
    size_t size() const { return static_cast<size_t>(view_.len); }

private:
    Py_buffer view_{};
};

struct Free {
    void operator()(void* p) const { std::free(p); }
};
template <class T>
using Memory = std::unique_ptr<T[], Free>;

template <class T>
Memory<T> allocate(size_t n, bool zero = false) {
    void* p = zero ? std::calloc(std::max<size_t>(n, 1), sizeof(T)) : std::malloc(std::max<size_t>(n, 1) * sizeof(T));
    if (p == nullptr) throw std::bad_alloc();
    return Memory<T>(static_cast<T*>(p));
}

// gives the first n elements to Python; the rest goes back to the system
template <class T>
OutArray<T> array_of(Memory<T> memory, size_t n) {
    void* p = memory.release();
    if (void* shrunk = std::realloc(p, std::max<size_t>(n, 1) * sizeof(T))) p = shrunk;
    nb::capsule owner(p, [](void* q) noexcept { std::free(q); });
    return OutArray<T>(p, {n}, owner);
}

std::optional<Cpu> to_cpu(const CpuTuple& cpu) {
    if (!cpu) return std::nullopt;
    const auto [family, model, stepping] = *cpu;
    if (family < 0 || family > 0xffff || model < 0 || model > 0xff || stepping < 0 || stepping > 0xff)
        throw std::invalid_argument("cpu must be family, model and stepping as CPUID gives them");
    return Cpu{static_cast<uint16_t>(family), static_cast<uint8_t>(model), static_cast<uint8_t>(stepping)};
}

template <class T, class Field>
OutArray<T> column(const std::vector<BlockTable::Row>& rows, Field field) {
    auto memory = allocate<T>(rows.size());
    for (size_t i = 0; i < rows.size(); ++i) memory[i] = static_cast<T>(field(rows[i]));
    return array_of(std::move(memory), rows.size());
}

nb::dict table_arrays(const BlockTable& table) {
    using Row = BlockTable::Row;
    const auto rows = table.rows();
    nb::dict result;
    result["start"] = column<uint64_t>(rows, [](const Row& r) { return r.start; });
    result["end"] = column<uint64_t>(rows, [](const Row& r) { return r.last; });
    result["length"] = column<uint32_t>(rows, [](const Row& r) { return r.length; });
    result["count"] = column<uint32_t>(rows, [](const Row& r) { return r.count; });
    result["kind"] = column<uint8_t>(rows, [](const Row& r) { return r.kind; });
    result["space"] = column<uint32_t>(rows, [](const Row& r) { return r.space; });
    return result;
}

nb::tuple decoder_read(Decoder& decoder, int64_t limit) {
    if (limit < 1) throw std::invalid_argument("limit must be at least 1");
    const size_t n = std::min<size_t>(static_cast<size_t>(limit), kMaxRead);
    Memory<uint32_t> ids;
    Memory<uint8_t> gaps;
    Memory<uint32_t> turns;
    Output out;
    {
        const nb::gil_scoped_release release;
        ids = allocate<uint32_t>(n);
        gaps = allocate<uint8_t>(n, true);
        turns = allocate<uint32_t>(n);
        out.ids = ids.get();
        out.gaps = gaps.get();
        out.turns = turns.get();
        out.limit = n;
        decoder.read(out);
    }
    return nb::make_tuple(array_of(std::move(ids), out.size), array_of(std::move(gaps), out.size),
                          array_of(std::move(turns), out.turned));
}

nb::list decoder_gaps(const Decoder& decoder) {
    nb::list result;
    for (const auto& gap : decoder.walker().details())
        result.append(nb::make_tuple(gap.step, static_cast<int>(gap.cause), gap.offset, gap.address, gap.bytes_lost));
    return result;
}

nb::dict decoder_statistics(const Decoder& decoder) {
    const Statistics s = decoder.statistics();
    nb::dict result;
    result["bytes"] = s.bytes;
    result["bytes_lost"] = s.bytes_lost;
    result["instructions"] = s.instructions;
    result["blocks"] = s.blocks;
    result["errors"] = s.errors;
    result["unmapped"] = s.unmapped;
    result["overflows"] = s.overflows;
    result["psb"] = s.psb;
    result["plain"] = s.plain;
    result["epochs"] = s.epochs;
    result["unknown"] = s.unknown;
    return result;
}

OutArray<uint64_t> instructions(const BlockTable& table, const InArray<uint32_t>& ids) {
    Memory<uint64_t> memory;
    size_t n = 0;
    {
        const nb::gil_scoped_release release;
        const auto rows = table.rows();
        const auto pool = table.pool();
        uint64_t total = 0;
        for (size_t i = 0; i < ids.size(); ++i) {
            if (ids.data()[i] >= rows.size()) throw std::out_of_range("no block has this number");
            total += rows[ids.data()[i]].count;
        }
        if (total > kMaxAddresses) throw std::length_error("too many instructions for one call");
        memory = allocate<uint64_t>(total);
        for (size_t i = 0; i < ids.size(); ++i) {
            const auto& row = rows[ids.data()[i]];
            uint64_t address = row.start;
            for (uint32_t k = 0; k < row.count; ++k) {
                memory[n++] = address;
                address += pool[row.sizes + k];
            }
        }
    }
    return array_of(std::move(memory), n);
}

nb::tuple libipt_blocks(const nb::bytes& data, const std::shared_ptr<AddressSpace>& space, const CpuTuple& cpu) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(data.c_str());
    const size_t size = data.size();
    const auto model = to_cpu(cpu);
    Baseline result;
    {
        const nb::gil_scoped_release release;
        result = run_baseline(bytes, size, space, model);
    }
    return nb::make_tuple(result.blocks, result.instructions, result.errors);
}

}  // namespace
}  // namespace barnum

NB_MODULE(_decoder, m) {
    using namespace barnum;
    m.doc() = "Intel PT decoder on libipt.";

    nb::register_exception_translator([](const std::exception_ptr& p, void*) {
        try {
            std::rethrow_exception(p);
        } catch (const FileError& error) {
            errno = error.code().value();
            PyErr_SetFromErrnoWithFilename(PyExc_OSError, error.path().c_str());
        }
    });

    nb::class_<AddressSpace>(m, "AddressSpace")
        .def(nb::init<int>(), "mode"_a = 64)
        .def("add_file", &AddressSpace::add_file, "path"_a, "offset"_a, "size"_a, "address"_a, "executable"_a = true)
        .def(
            "add_bytes",
            [](AddressSpace& space, nb::handle data, uint64_t address, uint32_t epoch) {
                const Bytes bytes(data);
                space.add_bytes(bytes.data(), bytes.size(), address, epoch);
            },
            "data"_a, "address"_a, "epoch"_a = 0);

    nb::class_<BlockTable>(m, "BlockTable")
        .def(nb::init<>())
        .def("__len__", &BlockTable::size)
        .def("arrays", &table_arrays);

    nb::class_<Decoder>(m, "Decoder")
        .def(
            "__init__",
            [](Decoder* self, std::shared_ptr<AddressSpace> space, std::shared_ptr<BlockTable> table, uint32_t index,
               const CpuTuple& cpu,
               bool plain) { new (self) Decoder(std::move(space), std::move(table), index, to_cpu(cpu), plain); },
            "space"_a, "table"_a, "space_index"_a = 0, "cpu"_a = nb::none(), "plain"_a = true)
        .def(
            "feed",
            [](Decoder& decoder, nb::handle data, bool final) {
                const Bytes bytes(data);
                const nb::gil_scoped_release release;
                decoder.feed(bytes.data(), bytes.size(), final);
            },
            "data"_a, "final"_a = false)
        .def("read", &decoder_read, "limit"_a)
        .def("gaps", &decoder_gaps)
        .def("statistics", &decoder_statistics)
        .def("unmapped", [](const Decoder& decoder) { return decoder.walker().unmapped(); });

    m.def("instructions", &instructions, "table"_a, "ids"_a);
    m.def("libipt_blocks", &libipt_blocks, "data"_a, "space"_a, "cpu"_a = nb::none());
}
