// One process's code: mapped files, overlaid by code bytes that change from epoch to epoch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <system_error>
#include <unordered_map>
#include <vector>

namespace barnum {

constexpr uint64_t kPageBits = 12;
constexpr uint64_t kPageSize = 1ull << kPageBits;

constexpr uint64_t page_of(uint64_t address) { return address >> kPageBits; }

// A file that cannot be mapped; code() says why.
class FileError : public std::system_error {
public:
    FileError(int error, std::string path)
        : std::system_error(error, std::generic_category(), path), path_(std::move(path)) {}
    const std::string& path() const { return path_; }

private:
    std::string path_;
};

// A read-only mapping of a part of a file; unmapped when the last user is gone.
class MappedFile {
public:
    MappedFile(const std::string& path, uint64_t offset, uint64_t size);
    ~MappedFile();
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;
    const uint8_t* data() const { return data_; }
    uint64_t size() const { return size_; }

private:
    void* base_ = nullptr;
    size_t mapped_ = 0;
    const uint8_t* data_ = nullptr;
    uint64_t size_ = 0;
};

struct FilePiece {
    uint64_t address;
    uint64_t size;
    std::shared_ptr<MappedFile> file;
    std::string path;
    uint64_t offset;
    bool executable;
};

struct CodeRecord {
    uint64_t address;
    uint32_t epoch;
    std::vector<uint8_t> data;
};

// Written once, then frozen by the first decoder that uses it: so any number of threads may read it.
class AddressSpace {
public:
    explicit AddressSpace(int mode);
    void add_file(const std::string& path, uint64_t offset, uint64_t size, uint64_t address, bool executable);
    void add_bytes(const uint8_t* data, size_t size, uint64_t address, uint32_t epoch);
    void freeze();

    int mode() const { return mode_; }
    const std::vector<FilePiece>& pieces() const { return pieces_; }
    const std::vector<CodeRecord>& records() const { return records_; }
    // records that touch the page, by their place in records(); null when none does
    const std::vector<uint32_t>* records_of(uint64_t page) const;
    // copies what files have of [address, address + size) and marks it in `present`
    bool whole_page(uint64_t page, const uint8_t** data) const;
    // whether code may be there: in an executable part of a file, or where code was recorded
    bool executable(uint64_t address) const;
    void fill_from_files(uint64_t page, uint8_t* bytes, uint8_t* present) const;

private:
    void check_open() const;
    void check_range(uint64_t address, uint64_t size) const;
    size_t first_touching(uint64_t address) const;

    int mode_;
    bool frozen_ = false;
    std::vector<FilePiece> pieces_;    // sorted by address once frozen
    std::vector<uint64_t> reach_;      // highest end among pieces_[0..i]
    std::vector<CodeRecord> records_;  // epochs ascend
    std::unordered_map<uint64_t, std::vector<uint32_t>> by_page_;
};

// What one decoder sees of an address space in its current epoch.
class CodeView {
public:
    explicit CodeView(std::shared_ptr<const AddressSpace> space) : space_(std::move(space)) {}
    const AddressSpace& space() const { return *space_; }
    uint32_t epoch() const { return epoch_; }
    // forgets pages whose bytes differ between the two epochs
    void set_epoch(uint32_t epoch);
    // bytes that can be read at the address, at most `size`; 0 when nothing is mapped there
    size_t read(uint64_t address, uint8_t* out, size_t size);

private:
    struct Page {
        const uint8_t* data = nullptr;   // null: nothing is mapped
        std::unique_ptr<uint8_t[]> own;  // bytes, then flags of presence
        bool whole = false;
    };
    const Page& page(uint64_t number);
    Page build(uint64_t number) const;

    std::shared_ptr<const AddressSpace> space_;
    uint32_t epoch_ = 0;
    std::unordered_map<uint64_t, Page> pages_;
    uint64_t last_number_ = ~0ull;
    const Page* last_ = nullptr;
};

}  // namespace barnum
