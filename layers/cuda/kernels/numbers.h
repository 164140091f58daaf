// layers/cuda/kernels/numbers.h - fp32 and bf16 values in kernels that compute in fp32.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#endif

#include "core/error.h"
#include "core/tensor/dtype.h"
#include "layers/cuda/kernels/launch.h"

namespace convoy::cuda {

CONVOY_HOST_DEVICE inline float ToFloat(float value) { return value; }
CONVOY_HOST_DEVICE inline float ToFloat(BFloat16 value) { return static_cast<float>(value); }

// Rounds to T as core/tensor/dtype.h does: to nearest, ties to even.
template <typename T>
CONVOY_HOST_DEVICE inline T FromFloat(float value) {
#ifdef __CUDA_ARCH__
  if constexpr (sizeof(T) == 2) {
    T result;
    result.bits = __bfloat16_as_ushort(__float2bfloat16_rn(value));
    return result;
  }
#endif
  return T(value);
}

// kWidth neighbouring values, loaded and stored at once: at a multiple of their size.
template <typename T, int kWidth>
struct alignas(sizeof(T) * kWidth) Vector {
  T values[static_cast<size_t>(kWidth)];
};

// A whole Vector in one access: without the vendor's types, nvcc takes a structure of words apart
// and loads and stores each by itself.
template <typename Whole>
CONVOY_HOST_DEVICE inline Whole LoadWhole(const void* from) {
#ifdef __CUDA_ARCH__
  if constexpr (sizeof(Whole) == 16) return std::bit_cast<Whole>(*static_cast<const uint4*>(from));
  if constexpr (sizeof(Whole) == 8) return std::bit_cast<Whole>(*static_cast<const uint2*>(from));
#endif
  return *static_cast<const Whole*>(from);
}
template <typename Whole>
CONVOY_HOST_DEVICE inline void StoreWhole(const Whole& value, void* to) {
#ifdef __CUDA_ARCH__
  if constexpr (sizeof(Whole) == 16) {
    *static_cast<uint4*>(to) = std::bit_cast<uint4>(value);
    return;
  }
  if constexpr (sizeof(Whole) == 8) {
    *static_cast<uint2*>(to) = std::bit_cast<uint2>(value);
    return;
  }
#endif
  *static_cast<Whole*>(to) = value;
}

// Values per 16 bytes, the widest load of a thread: 4 of fp32, 8 of bf16.
template <typename T>
inline constexpr int kVectorWidth = 16 / static_cast<int>(sizeof(T));

// kWidth values of T as they lie in memory, in words of 32 bits if that is possible: halves of
// a word are put together and taken apart again in code that the compiler sees.
template <typename T, int kWidth>
using Packed = std::conditional_t<sizeof(T) == 2 && kWidth % 2 == 0,
                                  Vector<uint32_t, std::max(kWidth / 2, 1)>, Vector<T, kWidth>>;

// values[0 .. kWidth) = packed, as fp32: an instruction per value of bf16.
template <int kWidth, typename T>
CONVOY_HOST_DEVICE inline void Unpack(const Packed<T, kWidth>& packed, float* values) {
  if constexpr (sizeof(T) == 2 && kWidth % 2 == 0) {
    for (int i = 0; i < kWidth / 2; ++i) {
      values[2 * i] = std::bit_cast<float>(packed.values[i] << 16);
      values[2 * i + 1] = std::bit_cast<float>(packed.values[i] & 0xFFFF0000u);
    }
  } else {
    for (int i = 0; i < kWidth; ++i) values[i] = ToFloat(packed.values[i]);
  }
}

// values[0 .. kWidth) = from[0 .. kWidth), as fp32. `from` is aligned to kWidth elements.
template <int kWidth, typename T>
CONVOY_HOST_DEVICE inline void LoadVector(const T* from, float* values) {
  Unpack<kWidth, T>(LoadWhole<Packed<T, kWidth>>(from), values);
}
template <int kWidth, typename T>
CONVOY_HOST_DEVICE inline void StoreVector(const float* values, T* to) {
#ifdef __CUDA_ARCH__
  if constexpr (sizeof(T) == 2 && kWidth % 2 == 0) {
    // Pairs in one word: nvcc stores 16-bit members one by one in some kernels.
    Vector<uint32_t, kWidth / 2> words;
    for (int i = 0; i < kWidth / 2; ++i) {
      const uint32_t low = FromFloat<T>(values[2 * i]).bits;
      const uint32_t high = FromFloat<T>(values[2 * i + 1]).bits;
      words.values[i] = low | high << 16;
    }
    *reinterpret_cast<Vector<uint32_t, kWidth / 2>*>(to) = words;
    return;
  }
#endif
  Vector<T, kWidth> vector;
  for (int i = 0; i < kWidth; ++i) vector.values[i] = FromFloat<T>(values[i]);
  StoreWhole(vector, to);
}

// Returns the largest of `widest`, `widest` / 2, ... 1 that divides `count`: how many values a
// thread takes at once if rows are `count` long.
constexpr int VectorWidthFor(int64_t count, int widest) {
  return count % widest == 0 ? widest : VectorWidthFor(count, widest / 2);
}

// Division by a number that is known when the kernel is made: a multiplication and a shift instead
// of some twenty instructions (Granlund and Montgomery, PLDI 1994). 0 <= n, 1 <= d < 2^31.
class Divider {
 public:
  Divider() = default;
  explicit Divider(int64_t divisor) : divisor_(static_cast<uint32_t>(CheckedCount(divisor))) {
    while ((uint64_t{1} << shift_) < divisor_) ++shift_;
    multiplier_ = static_cast<uint32_t>(
        ((uint64_t{1} << 32) * ((uint64_t{1} << shift_) - divisor_)) / divisor_ + 1);
  }
  CONVOY_HOST_DEVICE int32_t Divide(int32_t n) const {
    const auto value = static_cast<uint32_t>(n);
    const auto high = static_cast<uint32_t>((uint64_t{value} * multiplier_) >> 32);
    return static_cast<int32_t>((uint64_t{high} + value) >> shift_);
  }
  // n = quotient * divisor + remainder.
  CONVOY_HOST_DEVICE int32_t Split(int32_t n, int32_t* remainder) const {
    const int32_t quotient = Divide(n);
    *remainder = n - quotient * static_cast<int32_t>(divisor_);
    return quotient;
  }
  CONVOY_HOST_DEVICE int32_t divisor() const { return static_cast<int32_t>(divisor_); }

 private:
  uint32_t divisor_ = 1, multiplier_ = 1, shift_ = 0;
};

// Calls visit(T{}), T being float or BFloat16, as `dtype` says.
template <typename Visit>
decltype(auto) ForType(DType dtype, Visit&& visit) {
  CONVOY_CHECK(dtype == DType::kFloat32 || dtype == DType::kBFloat16, "{}", NameOf(dtype));
  return dtype == DType::kFloat32 ? visit(float{}) : visit(BFloat16{});
}

// visit(std::integral_constant of the values per thread) if `count` of T follow one another.
template <typename T, typename Visit>
decltype(auto) ForWidth(int64_t count, Visit&& visit) {
  constexpr int kWidest = kVectorWidth<T>;
  if (count % kWidest == 0) return visit(std::integral_constant<int, kWidest>{});
  return visit(std::integral_constant<int, 1>{});
}

}  // namespace convoy::cuda
