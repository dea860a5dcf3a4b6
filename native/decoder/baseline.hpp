// libipt's own block decoder over the same trace: the measure for speed, and a second opinion.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "address_space.hpp"
#include "decoder.hpp"

namespace barnum {

struct Baseline {
    uint64_t blocks = 0;
    uint64_t instructions = 0;
    uint64_t errors = 0;
};

Baseline run_baseline(const uint8_t* data, size_t size, const std::shared_ptr<AddressSpace>& space,
                      std::optional<Cpu> cpu);

}  // namespace barnum
