// Work that is shared by several threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace barnum {

// calls work(number) for 0 … count - 1 in several threads
template <typename Work>
void in_threads(size_t threads, size_t count, Work work) {
    std::atomic<size_t> next{0};
    std::exception_ptr failed;
    std::mutex guard;
    const auto run = [&] {
        try {
            for (size_t number = next++; number < count; number = next++) work(number);
        } catch (...) {
            const std::lock_guard<std::mutex> lock(guard);
            failed = std::current_exception();
        }
    };
    std::vector<std::thread> others;
    const size_t wanted = std::min(threads, count);
    others.reserve(wanted);
    try {
        for (size_t i = 1; i < wanted; ++i) others.emplace_back(run);
    } catch (...) {
        // no more threads can be had: those that began do all the work
    }
    run();
    for (std::thread& other : others) other.join();
    if (failed) std::rethrow_exception(failed);
}

}  // namespace barnum
