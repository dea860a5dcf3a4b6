// The extension barnum._causal: arrays in, arrays out.
#include <memory>
#include <utility>

#include "../common/arrays.hpp"
#include "../common/levels.hpp"
#include "scorer.hpp"

namespace nb = nanobind;

using barnum::array_of;
using barnum::InArray;

namespace {

// the tables of the network are not copied: they stay where they are as long as this does
class Scorer {
public:
    Scorer(InArray<float, 2> site, InArray<float, 2> previous, InArray<float, 2> gate, InArray<float, 2> out_weight,
           InArray<float> out_bias, InArray<float> sure, InArray<float> further_sure, InArray<float> strength,
           InArray<float, 2> prior, InArray<int32_t> width)
        : site_(std::move(site)),
          previous_(std::move(previous)),
          gate_(std::move(gate)),
          out_bias_(std::move(out_bias)),
          strength_(std::move(strength)),
          prior_(std::move(prior)),
          width_(std::move(width)),
          scorer_(network(out_weight, sure, further_sure)) {}

    nb::tuple score(InArray<int32_t> site, InArray<int32_t> previous, InArray<uint8_t, 2> rank,
                    InArray<uint8_t, 2> level, InArray<uint8_t, 2> further, InArray<uint8_t, 2> further_level,
                    InArray<uint8_t> reach, InArray<uint8_t, 2> asked) const {
        const size_t size = site.shape(0), lengths = strength_.shape(0) / barnum::LEVELS;
        const auto sized = [&](const InArray<uint8_t, 2>& array, size_t columns) {
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
        return nb::make_tuple(array_of(std::move(likeliest), size), array_of(std::move(best), size),
                              array_of(std::move(log_p), size, columns));
    }

private:
    barnum::Network network(const InArray<float, 2>& out_weight, const InArray<float>& sure,
                            const InArray<float>& further_sure) const {
        barnum::Network net;
        net.sites = site_.shape(0);
        net.targets = previous_.shape(0);
        net.units = site_.shape(1);
        net.ranks = prior_.shape(1);
        net.lengths = strength_.shape(0) / barnum::LEVELS;
        const size_t cells = (net.lengths + 1) * barnum::LEVELS;
        if (previous_.shape(1) != net.units || gate_.shape(0) != net.sites || gate_.shape(1) != net.units ||
            out_weight.shape(0) != net.ranks || out_weight.shape(1) != net.units || out_bias_.shape(0) != net.ranks ||
            strength_.shape(0) != net.lengths * barnum::LEVELS || sure.shape(0) != 2 * cells ||
            further_sure.shape(0) != barnum::FURTHER * cells || prior_.shape(0) != net.sites ||
            width_.shape(0) != net.sites) {
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

    InArray<float, 2> site_, previous_, gate_;
    InArray<float> out_bias_, strength_;
    InArray<float, 2> prior_;
    InArray<int32_t> width_;
    barnum::CausalScorer scorer_;
};

}  // namespace

NB_MODULE(_causal, module) {
    nb::class_<Scorer>(module, "Scorer")
        .def(nb::init<InArray<float, 2>, InArray<float, 2>, InArray<float, 2>, InArray<float, 2>, InArray<float>,
                      InArray<float>, InArray<float>, InArray<float>, InArray<float, 2>, InArray<int32_t>>(),
             nb::arg("site"), nb::arg("previous"), nb::arg("gate"), nb::arg("out_weight"), nb::arg("out_bias"),
             nb::arg("sure"), nb::arg("further_sure"), nb::arg("strength"), nb::arg("prior"), nb::arg("width"))
        .def("score", &Scorer::score, nb::arg("site"), nb::arg("previous"), nb::arg("rank"), nb::arg("level"),
             nb::arg("further"), nb::arg("further_level"), nb::arg("reach"), nb::arg("asked"));
}
