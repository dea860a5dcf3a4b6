#include "address_space.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace barnum {

namespace {
// pages kept ready; a decoder that needs more starts over, so that a hostile trace cannot grow it
constexpr size_t kMaxPages = 1 << 14;
}  // namespace

MappedFile::MappedFile(const std::string& path, uint64_t offset, uint64_t size) {
    // without blocking: it may be a pipe
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) throw FileError(errno, path);
    struct stat info{};
    if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        ::close(fd);
        throw FileError(EINVAL, path);
    }
    const auto whole = static_cast<uint64_t>(info.st_size);
    // bytes past the end of the file are not mapped at all: reading them would kill the process
    size_ = offset >= whole ? 0 : std::min(size, whole - offset);
    if (size_ == 0) {
        ::close(fd);
        return;
    }
    const uint64_t begin = offset & ~(kPageSize - 1);
    mapped_ = static_cast<size_t>(offset - begin + size_);
    base_ = ::mmap(nullptr, mapped_, PROT_READ, MAP_PRIVATE, fd, static_cast<off_t>(begin));
    const int error = errno;
    ::close(fd);
    if (base_ == MAP_FAILED) {
        base_ = nullptr;
        throw FileError(error, path);
    }
    data_ = static_cast<const uint8_t*>(base_) + (offset - begin);
}

MappedFile::~MappedFile() {
    if (base_ != nullptr) ::munmap(base_, mapped_);
}

AddressSpace::AddressSpace(int mode) : mode_(mode) {
    if (mode != 32 && mode != 64) throw std::invalid_argument("mode must be 32 or 64");
}

void AddressSpace::check_open() const {
    if (frozen_) throw std::invalid_argument("this address space is in use by a decoder: add code before");
}

void AddressSpace::check_range(uint64_t address, uint64_t size) const {
    const uint64_t top = mode_ == 32 ? 0xffffffffull : ~0ull;
    if (size != 0 && (address > top || size - 1 > top - address))
        throw std::invalid_argument("code lies outside of the address space");
}

void AddressSpace::add_file(const std::string& path, uint64_t offset, uint64_t size, uint64_t address,
                            bool executable) {
    check_open();
    check_range(address, size);
    auto file = std::make_shared<MappedFile>(path, offset, size);
    if (file->size() == 0) return;
    const uint64_t usable = file->size();
    pieces_.push_back({address, usable, std::move(file), path, offset, executable});
}

void AddressSpace::add_bytes(const uint8_t* data, size_t size, uint64_t address, uint32_t epoch) {
    check_open();
    check_range(address, size);
    if (!records_.empty() && epoch < records_.back().epoch)
        throw std::invalid_argument("epochs of code bytes must ascend");
    if (size == 0) return;
    const auto index = static_cast<uint32_t>(records_.size());
    records_.push_back({address, epoch, std::vector<uint8_t>(data, data + size)});
    for (uint64_t p = page_of(address);; ++p) {
        by_page_[p].push_back(index);
        if (p == page_of(address + size - 1)) break;
    }
}

void AddressSpace::freeze() {
    if (frozen_) return;
    frozen_ = true;
    // stable: of pieces at one address the one added last wins
    std::stable_sort(pieces_.begin(), pieces_.end(),
                     [](const FilePiece& a, const FilePiece& b) { return a.address < b.address; });
    uint64_t reach = 0;
    for (const auto& piece : pieces_) {
        reach = std::max(reach, piece.address + (piece.size - 1));
        reach_.push_back(reach);
    }
}

const std::vector<uint32_t>* AddressSpace::records_of(uint64_t page) const {
    const auto found = by_page_.find(page);
    return found == by_page_.end() ? nullptr : &found->second;
}

size_t AddressSpace::first_touching(uint64_t address) const {
    // reach_ ascends: the first piece from which on something may reach up to the address
    return static_cast<size_t>(std::lower_bound(reach_.begin(), reach_.end(), address) - reach_.begin());
}

bool AddressSpace::whole_page(uint64_t page, const uint8_t** data) const {
    const uint64_t begin = page << kPageBits;
    const uint64_t last = begin + (kPageSize - 1);
    const FilePiece* only = nullptr;
    for (size_t i = first_touching(begin); i < pieces_.size() && pieces_[i].address <= last; ++i) {
        const auto& piece = pieces_[i];
        if (piece.address + (piece.size - 1) < begin) continue;
        if (only != nullptr) return false;
        only = &piece;
    }
    if (only == nullptr || only->address > begin || only->address + (only->size - 1) < last) return false;
    *data = only->file->data() + (begin - only->address);
    return true;
}

bool AddressSpace::executable(uint64_t address) const {
    for (size_t i = first_touching(address); i < pieces_.size() && pieces_[i].address <= address; ++i) {
        const auto& piece = pieces_[i];
        if (piece.executable && piece.address + (piece.size - 1) >= address) return true;
    }
    const auto* indices = records_of(page_of(address));
    return indices != nullptr && std::any_of(indices->begin(), indices->end(), [&](uint32_t index) {
               const auto& record = records_[index];
               return record.address <= address && address - record.address < record.data.size();
           });
}

void AddressSpace::fill_from_files(uint64_t page, uint8_t* bytes, uint8_t* present) const {
    const uint64_t begin = page << kPageBits;
    const uint64_t last = begin + (kPageSize - 1);
    for (size_t i = first_touching(begin); i < pieces_.size() && pieces_[i].address <= last; ++i) {
        const auto& piece = pieces_[i];
        const uint64_t end = piece.address + (piece.size - 1);
        if (end < begin) continue;
        const uint64_t from = std::max(begin, piece.address);
        const uint64_t to = std::min(last, end);
        std::memcpy(bytes + (from - begin), piece.file->data() + (from - piece.address), to - from + 1);
        std::memset(present + (from - begin), 1, to - from + 1);
    }
}

void CodeView::set_epoch(uint32_t epoch) {
    last_ = nullptr;
    last_number_ = ~0ull;
    const auto& records = space_->records();
    const auto [low, high] = std::minmax({epoch, epoch_});
    auto record = std::upper_bound(records.begin(), records.end(), low,
                                   [](uint32_t e, const CodeRecord& r) { return e < r.epoch; });
    for (; record != records.end() && record->epoch <= high; ++record) {
        const uint64_t end = page_of(record->address + record->data.size() - 1);
        for (uint64_t p = page_of(record->address);; ++p) {
            pages_.erase(p);
            if (p == end) break;
        }
    }
    epoch_ = epoch;
}

CodeView::Page CodeView::build(uint64_t number) const {
    Page result;
    const auto* indices = space_->records_of(number);
    if (indices == nullptr && space_->whole_page(number, &result.data)) {
        result.whole = true;
        return result;
    }
    auto own = std::make_unique<uint8_t[]>(2 * kPageSize);
    uint8_t* bytes = own.get();
    uint8_t* present = bytes + kPageSize;
    space_->fill_from_files(number, bytes, present);
    if (indices != nullptr) {
        const uint64_t begin = number << kPageBits;
        const uint64_t last = begin + (kPageSize - 1);
        for (const uint32_t index : *indices) {
            const auto& record = space_->records()[index];
            if (record.epoch > epoch_) break;
            const uint64_t from = std::max(begin, record.address);
            const uint64_t to = std::min(last, record.address + record.data.size() - 1);
            std::memcpy(bytes + (from - begin), record.data.data() + (from - record.address), to - from + 1);
            std::memset(present + (from - begin), 1, to - from + 1);
        }
    }
    if (std::memchr(present, 1, kPageSize) == nullptr) return result;  // nothing is mapped
    result.whole = std::memchr(present, 0, kPageSize) == nullptr;
    result.data = bytes;
    result.own = std::move(own);
    return result;
}

const CodeView::Page& CodeView::page(uint64_t number) {
    if (last_ != nullptr && number == last_number_) return *last_;
    auto found = pages_.find(number);
    if (found == pages_.end()) {
        if (pages_.size() >= kMaxPages) pages_.clear();
        found = pages_.emplace(number, build(number)).first;
    }
    last_number_ = number;
    last_ = &found->second;
    return *last_;
}

size_t CodeView::read(uint64_t address, uint8_t* out, size_t size) {
    size_t done = 0;
    while (done < size) {
        const uint64_t at = address + done;
        if (at < address) break;  // the address space ends
        if (space_->mode() == 32 && at > 0xffffffffull) break;
        const Page& p = page(page_of(at));
        if (p.data == nullptr) break;
        const size_t offset = at & (kPageSize - 1);
        size_t n = std::min<size_t>(size - done, kPageSize - offset);
        if (!p.whole) {
            const auto* hole = static_cast<const uint8_t*>(std::memchr(p.data + kPageSize + offset, 0, n));
            if (hole != nullptr) n = static_cast<size_t>(hole - (p.data + kPageSize + offset));
        }
        if (n == 0) break;
        std::memcpy(out + done, p.data + offset, n);
        done += n;
        if (((at + n) & (kPageSize - 1)) != 0) break;  // a hole inside of the page, or all is read
    }
    return done;
}

}  // namespace barnum
