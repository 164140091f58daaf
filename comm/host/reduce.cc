#include "comm/host/reduce.h"

#include <algorithm>
#include <type_traits>

namespace convoy {
namespace {

// Elements that are accumulated at a time: 8 or 16 KB, so that they stay in the first-level cache.
constexpr int64_t kBlock = 2048;

template <typename T>
struct AccumulatorOf {
  using Type = T;
};
template <>
struct AccumulatorOf<BFloat16> {
  using Type = float;
};

template <typename T>
T Add(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    using Unsigned = std::make_unsigned_t<T>;
    return static_cast<T>(static_cast<Unsigned>(a) + static_cast<Unsigned>(b));
  } else {
    return a + b;
  }
}

template <ReduceOp kOp, typename T>
T Apply(T a, T b) {
  if constexpr (kOp == ReduceOp::kSum) return Add(a, b);
  if constexpr (kOp == ReduceOp::kMax) return a < b ? b : a;
  if constexpr (kOp == ReduceOp::kMin) return b < a ? b : a;
}

template <typename T, ReduceOp kOp>
void Reduce(std::span<const void* const> sources, std::span<void* const> destinations,
            int64_t count) {
  using Accumulator = typename AccumulatorOf<T>::Type;
  alignas(64) Accumulator sum[kBlock];
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t n = std::min(kBlock, count - begin);
    const T* first = static_cast<const T*>(sources[0]) + begin;
    for (int64_t i = 0; i < n; ++i) sum[i] = static_cast<Accumulator>(first[i]);
    for (const void* source : sources.subspan(1)) {
      const T* next = static_cast<const T*>(source) + begin;
      for (int64_t i = 0; i < n; ++i) {
        sum[i] = Apply<kOp>(sum[i], static_cast<Accumulator>(next[i]));
      }
    }
    for (void* destination : destinations) {
      T* to = static_cast<T*>(destination) + begin;
      for (int64_t i = 0; i < n; ++i) to[i] = static_cast<T>(sum[i]);
    }
  }
}

template <typename T>
void Reduce(ReduceOp op, std::span<const void* const> sources, std::span<void* const> destinations,
            int64_t count) {
  switch (op) {
    case ReduceOp::kSum:
      return Reduce<T, ReduceOp::kSum>(sources, destinations, count);
    case ReduceOp::kMax:
      return Reduce<T, ReduceOp::kMax>(sources, destinations, count);
    case ReduceOp::kMin:
      return Reduce<T, ReduceOp::kMin>(sources, destinations, count);
  }
}

}  // namespace

void ReduceArrays(DType dtype, ReduceOp op, std::span<const void* const> sources,
                  std::span<void* const> destinations, int64_t count) {
  switch (dtype) {
    case DType::kFloat32:
      return Reduce<float>(op, sources, destinations, count);
    case DType::kFloat64:
      return Reduce<double>(op, sources, destinations, count);
    case DType::kBFloat16:
      return Reduce<BFloat16>(op, sources, destinations, count);
    case DType::kInt32:
      return Reduce<int32_t>(op, sources, destinations, count);
    case DType::kInt64:
      return Reduce<int64_t>(op, sources, destinations, count);
    case DType::kUInt8:
      break;
  }
  CONVOY_CHECK(false, "{} is not reduced", NameOf(dtype));
}

}  // namespace convoy
