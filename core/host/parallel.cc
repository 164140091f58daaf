#include "core/host/parallel.h"

#include <algorithm>
#include <atomic>
#include <mutex>

#include "core/host/thread_pool.h"

namespace convoy {

void ParallelFor(int64_t begin, int64_t end, int threads,
                 const std::function<void(int thread, int64_t i)>& work,
                 const std::function<void(int64_t done)>& progress) {
  constexpr int64_t kAtATime = 16;
  std::atomic<int64_t> next{begin};
  int64_t done = 0;  // under the lock
  std::atomic<bool> failed{false};
  std::mutex progress_mutex;
  ThreadPool pool(threads, "convoy-data");
  for (int thread = 0; thread < threads; ++thread) {
    pool.Submit([&, thread] {
      try {
        while (!failed) {
          const int64_t first = next.fetch_add(kAtATime);
          if (first >= end) return;
          const int64_t last = std::min(first + kAtATime, end);
          for (int64_t i = first; i < last && !failed; ++i) work(thread, i);
          if (!progress) continue;
          const std::lock_guard lock(progress_mutex);
          done += last - first;
          progress(done);
        }
      } catch (...) {
        failed = true;
        throw;
      }
    });
  }
  pool.Wait();
}

}  // namespace convoy
