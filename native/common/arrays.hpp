// Arrays that come from Python and go to it.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

namespace barnum {

// an argument: contiguous, and not changed
template <typename T, size_t N = 1>
using InArray = nanobind::ndarray<const T, nanobind::ndim<N>, nanobind::c_contig, nanobind::device::cpu>;

// a result
template <typename T, size_t N = 1>
using OutArray = nanobind::ndarray<nanobind::numpy, T, nanobind::ndim<N>>;

// of the shape given, without a copy: the memory becomes the array's
template <typename T, typename... Sizes>
OutArray<T, sizeof...(Sizes)> array_of(std::unique_ptr<T[]> data, Sizes... shape) {
    nanobind::capsule owner(data.get(), [](void* p) noexcept { delete[] static_cast<T*>(p); });
    return OutArray<T, sizeof...(Sizes)>(data.release(), {static_cast<size_t>(shape)...}, owner);
}

// the same of a vector, which is empty afterwards
template <typename T>
OutArray<T> moved(std::vector<T>& values) {
    auto owned = std::make_unique<std::vector<T>>(std::move(values));
    nanobind::capsule owner(owned.get(), [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
    std::vector<T>* kept = owned.release();
    return OutArray<T>(kept->data(), {kept->size()}, owner);
}

template <typename T>
OutArray<T> copied(const std::vector<T>& values) {
    std::unique_ptr<T[]> copy(new T[values.size()]);
    std::copy(values.begin(), values.end(), copy.get());
    return array_of(std::move(copy), values.size());
}

}  // namespace barnum
