#include "baseline.hpp"

#include <limits>
#include <new>
#include <stdexcept>

namespace barnum {

namespace {

int fetch(uint8_t* buffer, size_t size, const pt_asid*, uint64_t ip, void* view) {
    const size_t n = static_cast<CodeView*>(view)->read(ip, buffer, size);
    return n == 0 ? -pte_nomap : static_cast<int>(n);
}

using Cache = std::unique_ptr<pt_image_section_cache, decltype(&pt_iscache_free)>;
using BlockDecoder = std::unique_ptr<pt_block_decoder, decltype(&pt_blk_free_decoder)>;

void add_sections(pt_image* image, pt_image_section_cache* cache, const AddressSpace& space) {
    for (const auto& piece : space.pieces()) {
        const int id = pt_iscache_add_file(cache, piece.path.c_str(), piece.offset, piece.size, piece.address);
        if (id < 0 || pt_image_add_cached(image, cache, id, nullptr) < 0)
            throw std::runtime_error("libipt cannot map " + piece.path);
    }
}

}  // namespace

Baseline run_baseline(const uint8_t* data, size_t size, const std::shared_ptr<AddressSpace>& space,
                      std::optional<Cpu> cpu) {
    space->freeze();
    pt_config config = make_config(cpu);
    // libipt only reads; its header has no const
    config.begin = const_cast<uint8_t*>(data);
    config.end = config.begin + size;
    const Cache cache(pt_iscache_alloc(nullptr), &pt_iscache_free);
    const BlockDecoder decoder(pt_blk_alloc_decoder(&config), &pt_blk_free_decoder);
    if (cache == nullptr || decoder == nullptr) throw std::bad_alloc();
    // without a limit libipt maps a section anew each time it is entered
    pt_iscache_set_limit(cache.get(), std::numeric_limits<uint64_t>::max());
    add_sections(pt_blk_get_image(decoder.get()), cache.get(), *space);
    CodeView view(space);
    view.set_epoch(std::numeric_limits<uint32_t>::max());  // the code as it was in the end
    pt_image_set_callback(pt_blk_get_image(decoder.get()), fetch, &view);

    Baseline result;
    for (;;) {
        int status = pt_blk_sync_forward(decoder.get());
        if (status == -pte_eos) break;
        while (status >= 0) {
            while (status >= 0 && (status & pts_event_pending) != 0) {
                pt_event event;
                status = pt_blk_event(decoder.get(), &event, sizeof(event));
            }
            if (status < 0 || (status & pts_eos) != 0) break;
            pt_block block;
            status = pt_blk_next(decoder.get(), &block, sizeof(block));
            if (block.ninsn != 0) {
                ++result.blocks;
                result.instructions += block.ninsn;
            }
        }
        if (status >= 0 || status == -pte_eos) break;
        ++result.errors;
    }
    return result;
}

}  // namespace barnum
