// A set of 64-bit keys, none of them 0: open addressing, grows as it fills.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace barnum {

class KeySet {
public:
    KeySet() : keys_(64) {}

    // whether the key is new
    bool add(uint64_t key) {
        if ((used_ + 1) * 10 > keys_.size() * 7) grow();
        if (!put(key)) return false;
        ++used_;
        return true;
    }
    size_t bytes() const { return keys_.size() * sizeof(uint64_t); }

private:
    bool put(uint64_t key) {
        const size_t mask = keys_.size() - 1;
        size_t i = key & mask;
        for (; keys_[i] != 0; i = (i + 1) & mask) {
            if (keys_[i] == key) return false;
        }
        keys_[i] = key;
        return true;
    }
    void grow() {
        std::vector<uint64_t> old(keys_.size() * 2);
        old.swap(keys_);
        for (const uint64_t key : old) {
            if (key != 0) put(key);
        }
    }

    std::vector<uint64_t> keys_;
    size_t used_ = 0;
};

}  // namespace barnum
