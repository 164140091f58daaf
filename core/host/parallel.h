// core/host/parallel.h - one job over a range of samples, on several threads.
#pragma once

#include <cstdint>
#include <functional>

namespace convoy {

// Calls work(thread, i) once for each i of [begin, end), on `threads` threads numbered from 0, in
// no order. `progress`, which may be empty, is told how many are done now and then, by one thread
// at a time. Rethrows the first exception after all threads have stopped.
void ParallelFor(int64_t begin, int64_t end, int threads,
                 const std::function<void(int thread, int64_t i)>& work,
                 const std::function<void(int64_t done)>& progress);

}  // namespace convoy
