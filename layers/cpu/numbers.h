// layers/cpu/numbers.h - fp32 and bf16 values in loops that compute in fp32.
#pragma once

#include <bit>
#include <cstdint>

#include "core/error.h"
#include "core/tensor/dtype.h"

namespace convoy::cpu {

inline float Load(const float* from) { return *from; }
inline float Load(const BFloat16* from) { return static_cast<float>(*from); }
inline void Store(float value, float* to) { *to = value; }
inline void Store(float value, BFloat16* to) { *to = BFloat16(value); }

// value if `keep`, else 0; never a branch, which would keep a loop from being vectorised.
inline float ZeroUnless(bool keep, float value) {
  return std::bit_cast<float>(std::bit_cast<uint32_t>(value) & (0u - static_cast<uint32_t>(keep)));
}

// Calls visit(T{}), T being float or BFloat16, as `dtype` says.
template <typename Visit>
decltype(auto) ForType(DType dtype, Visit&& visit) {
  CONVOY_CHECK(dtype == DType::kFloat32 || dtype == DType::kBFloat16, "{}", NameOf(dtype));
  return dtype == DType::kFloat32 ? visit(float{}) : visit(BFloat16{});
}

// The part of [0, count) that thread `thread` of `threads` works on.
struct Part {
  int64_t begin, end;
};
inline Part PartOf(int64_t count, int thread, int threads) {
  return {count * thread / threads, count * (thread + 1) / threads};
}

}  // namespace convoy::cpu
