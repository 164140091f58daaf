#include "bench/stream_limit.h"

#include <algorithm>
#include <chrono>
#include <vector>

namespace convoy {

double StreamBytesPerSecond(int threads) {
  constexpr int64_t kElements = int64_t{1} << 25;  // 128 MiB per array
  constexpr int kPasses = 5;
  std::vector<float> a(kElements), b(kElements, 1), c(kElements, 2);
  double best_s = 1e30;
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto start = std::chrono::steady_clock::now();
#pragma omp parallel for simd num_threads(threads) schedule(static)
    for (int64_t i = 0; i < kElements; ++i) a[i] = b[i] + c[i] * static_cast<float>(pass + 1);
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    best_s = std::min(best_s, elapsed.count());
  }
  return 3.0 * kElements * sizeof(float) / best_s;
}

}  // namespace convoy
