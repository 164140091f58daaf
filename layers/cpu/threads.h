// layers/cpu/threads.h - OpenMP's number of threads, for as long as this object lives.
//
// The number belongs to the calling thread: ranks that are threads of one process do not meet.
// oneDNN reads it when a primitive is made and when it runs.
#pragma once

#include <omp.h>

namespace convoy::cpu {

class ThreadScope {
 public:
  explicit ThreadScope(int threads) : before_(omp_get_max_threads()) {
    omp_set_num_threads(threads);
  }
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;
  ~ThreadScope() { omp_set_num_threads(before_); }

 private:
  int before_;
};

}  // namespace convoy::cpu
