#include "layers/operations/windows.h"

#include <algorithm>

#include "core/error.h"

namespace convoy {
namespace {

std::vector<Covering> CoveringsOf(const std::vector<Window>& windows, int64_t in) {
  std::vector<Covering> coverings;
  for (int64_t place = 0; place < in; ++place) {
    const auto first = std::find_if(windows.begin(), windows.end(),
                                    [&](const Window& window) { return window.end > place; });
    const auto end = std::find_if(first, windows.end(),
                                  [&](const Window& window) { return window.begin > place; });
    coverings.push_back({first - windows.begin(), end - windows.begin()});
  }
  return coverings;
}

}  // namespace

WindowAxis PoolWindows(const Pool& pool, Axis axis, int64_t in, int64_t out) {
  const int before = axis == Axis::kHeight ? pool.padding.top : pool.padding.left;
  const int after = axis == Axis::kHeight ? pool.padding.bottom : pool.padding.right;
  WindowAxis result;
  for (int64_t i = 0; i < out; ++i) {
    const int64_t start = i * pool.stride - before;
    const int64_t end_in_padding = std::min<int64_t>(start + pool.kernel, in + after);
    const int64_t begin = std::max<int64_t>(start, 0);
    const int64_t end = std::min(end_in_padding, in);
    if (begin >= end) {
      throw Error(ExitCode::kUsage,
                  fmt::format("pooling window {} of kernel {}, stride {} lies in the padding alone",
                              i, pool.kernel, pool.stride),
                  "padding must be smaller than the kernel");
    }
    const bool with_padding = pool.divisor == AverageDivisor::kIncludePadding;
    const int64_t divisor = with_padding ? end_in_padding - start : end - begin;
    result.windows.push_back({start, begin, end, static_cast<float>(divisor)});
  }
  result.coverings = CoveringsOf(result.windows, in);
  return result;
}

WindowAxis AdaptiveWindows(int64_t in, int64_t out) {
  WindowAxis result;
  for (int64_t i = 0; i < out; ++i) {
    const int64_t begin = i * in / out;
    const int64_t end = ((i + 1) * in + out - 1) / out;
    result.windows.push_back({begin, begin, end, static_cast<float>(end - begin)});
  }
  result.coverings = CoveringsOf(result.windows, in);
  return result;
}

}  // namespace convoy
