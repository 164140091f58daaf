// fp32 and bf16, one to the other. Bytes per element: 4 read, 2 written, or the reverse; no flops.
#include "layers/cuda/kernels/numbers.h"
#include "layers/cuda/kernels/operations.h"

namespace convoy::cuda {
namespace {

template <typename From, typename To>
struct ConvertKernel {
  const From* from;
  To* to;
  CONVOY_HOST_DEVICE void operator()(int32_t i) const { to[i] = FromFloat<To>(ToFloat(from[i])); }
};

}  // namespace

void Convert(Stream& stream, const Tensor& from, const Tensor& to) {
  CONVOY_CHECK(from.count() == to.count(), "{} and {}", from.shape.ToString(), to.shape.ToString());
  ForType(from.dtype, [&](auto from_type) {
    ForType(to.dtype, [&](auto to_type) {
      using From = decltype(from_type);
      using To = decltype(to_type);
      ForEach(stream, from.count(),
              ConvertKernel<From, To>{.from = from.As<From>(), .to = to.As<To>()});
    });
  });
}

}  // namespace convoy::cuda
