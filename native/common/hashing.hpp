// Hashes that several extensions use: a mixing of 64 bits, places in hash tables, and arithmetic modulo a prime for
// rolling hashes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>

namespace barnum {

// a one-to-one mixing of all bits
inline uint64_t mixed(uint64_t x) {
    x ^= x >> 30;
    x *= 0xBF58476D1CE4E5B9ull;
    x ^= x >> 27;
    x *= 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

// Keys from a file may have been chosen to collide: where they go in a table depends on a random number.
inline const uint64_t SECRET = [] {
    std::random_device source;
    return (uint64_t{source()} << 32) | source();
}();

// where a key goes in a table of mask + 1 places, a power of two
inline size_t secret_place(uint64_t key, size_t mask) {
    const unsigned __int128 product = static_cast<unsigned __int128>(key ^ SECRET) * (SECRET | 1);
    return (static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64)) & mask;
}

constexpr uint64_t PRIME = (uint64_t{1} << 61) - 1;

// a · b + c modulo the prime, but for a small multiple of it: below 3 · 2^61 for a below 2^63
inline uint64_t folded(uint64_t a, uint64_t b, uint64_t c = 0) {
    const unsigned __int128 wide = static_cast<unsigned __int128>(a) * b + c;
    return (static_cast<uint64_t>(wide) & PRIME) + static_cast<uint64_t>(wide >> 61);
}

inline uint64_t reduced(uint64_t x) {
    x = (x & PRIME) + (x >> 61);
    return x >= PRIME ? x - PRIME : x;
}

}  // namespace barnum
