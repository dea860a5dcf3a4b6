// The extension barnum._causal: arrays in, arrays out.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <memory>
#include <utility>

#include "../contexts/contexts.hpp"
#include "scorer.hpp"

namespace nb = nanobind;

namespace {

template <typename T, size_t N>
using Array = nb::ndarray<const T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;

template <typename T>
nb::ndarray<nb::numpy, T> array_of(std::unique_ptr<T[]> data, size_t rows, size_t columns) {
    T* raw = data.release();
    nb::capsule owner(raw, [](void* p) noexcept { delete[] static_cast<T*>(p); });
    if (columns == 0) return nb::ndarray<nb::numpy, T>(raw, {rows}, owner);
    return nb::ndarray<nb::numpy, T>(raw, {rows, columns}, owner);
}

// the tables of the network are not copied: they stay where they are as long as this does
class Scorer {
public:
    Scorer(Array<float, 2> site, Array<float, 2> previous, Array<float, 2> gate, Array<float, 2> out_weight,
           Array<float, 1> out_bias, Array<float, 1> sure, Array<float, 1> further_sure, Array<float, 1> strength,
           Array<float, 2> prior, Array<int32_t, 1> width)
        : site_(std::move(site)),
          previous_(std::move(previous)),
          gate_(std::move(gate)),
          out_bias_(std::move(out_bias)),
          strength_(std::move(strength)),
          prior_(std::move(prior)),
          width_(std::move(width)),
          scorer_(network(out_weight, sure, further_sure)) {}

    nb::tuple score(Array<int32_t, 1> site, Array<int32_t, 1> previous, Array<uint8_t, 2> rank,
                    Array<uint8_t, 2> level, Array<uint8_t, 2> further, Array<uint8_t, 2> further_level,
                    Array<uint8_t, 1> reach, Array<uint8_t, 2> asked) const {
        const size_t size = site.shape(0), lengths = strength_.shape(0) / barnum::LEVELS;
        const auto sized = [&](const Array<uint8_t, 2>& array, size_t columns) {
            return array.shape(0) == size && array.shape(1) == columns;
        };
        if (previous.shape(0) != size || reach.shape(0) != size || asked.shape(0) != size || asked.shape(1) < 1 ||
            !sized(rank, lengths) || !sized(level, lengths) || !sized(further, barnum::FURTHER) ||
            !sized(further_level, barnum::FURTHER)) {
            throw nb::value_error("rows of sizes that do not fit together");
        }
        const size_t columns = asked.shape(1);
        std::unique_ptr<uint8_t[]> likeliest(new uint8_t[size]);
        std::unique_ptr<float[]> best(new float[size]);
        std::unique_ptr<float[]> log_p(new float[size * columns]);
        {
            nb::gil_scoped_release release;
            scorer_.score({size, columns, site.data(), previous.data(), rank.data(), level.data(), further.data(),
                           further_level.data(), reach.data(), asked.data()},
                          {likeliest.get(), best.get(), log_p.get()});
        }
        return nb::make_tuple(array_of(std::move(likeliest), size, 0), array_of(std::move(best), size, 0),
                              array_of(std::move(log_p), size, columns));
    }

private:
    barnum::Network network(const Array<float, 2>& out_weight, const Array<float, 1>& sure,
                            const Array<float, 1>& further_sure) const {
        barnum::Network net;
        net.sites = site_.shape(0);
        net.targets = previous_.shape(0);
        net.units = site_.shape(1);
        net.ranks = prior_.shape(1);
        net.lengths = strength_.shape(0) / barnum::LEVELS;
        const size_t cells = (net.lengths + 1) * barnum::LEVELS;
        if (previous_.shape(1) != net.units || gate_.shape(0) != net.sites || gate_.shape(1) != net.units ||
            out_weight.shape(0) != net.ranks || out_weight.shape(1) != net.units ||
            out_bias_.shape(0) != net.ranks || strength_.shape(0) != net.lengths * barnum::LEVELS ||
            sure.shape(0) != 2 * cells || further_sure.shape(0) != barnum::FURTHER * cells ||
            prior_.shape(0) != net.sites || width_.shape(0) != net.sites) {
            throw nb::value_error("tables of sizes that do not fit together");
        }
        net.site = site_.data();
        net.previous = previous_.data();
        net.gate = gate_.data();
        net.out_weight = out_weight.data();
        net.out_bias = out_bias_.data();
        net.sure = sure.data();
        net.further_sure = further_sure.data();
        net.strength = strength_.data();
        net.prior = prior_.data();
        net.width = width_.data();
        return net;
    }

    Array<float, 2> site_, previous_, gate_;
    Array<float, 1> out_bias_, strength_;
    Array<float, 2> prior_;
    Array<int32_t, 1> width_;
    barnum::CausalScorer scorer_;
};

}  // namespace

NB_MODULE(_causal, module) {
    nb::class_<Scorer>(module, "Scorer")
        .def(nb::init<Array<float, 2>, Array<float, 2>, Array<float, 2>, Array<float, 2>, Array<float, 1>,
                      Array<float, 1>, Array<float, 1>, Array<float, 1>, Array<float, 2>, Array<int32_t, 1>>(),
             nb::arg("site"), nb::arg("previous"), nb::arg("gate"), nb::arg("out_weight"), nb::arg("out_bias"),
             nb::arg("sure"), nb::arg("further_sure"), nb::arg("strength"), nb::arg("prior"), nb::arg("width"))
        .def("score", &Scorer::score, nb::arg("site"), nb::arg("previous"), nb::arg("rank"), nb::arg("level"),
             nb::arg("further"), nb::arg("further_level"), nb::arg("reach"), nb::arg("asked"));
}
