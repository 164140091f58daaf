// layers/cuda/kernels/launch.h - how kernels are written and started.
//
// A kernel is a small struct with the pointers and sizes that it needs and one operator(), written
// once: nvcc compiles it for the device. If nvcc is absent, tests/emulation compiles the same
// files with the host's compiler and runs the threads one after another, so that the arithmetic of
// every kernel, its indices and the order of its sums are tested without a device.
//
//   ForEach       one thread per element, no thread knows of another
//   ForEachGroup  one group of threads per element: sums and maxima over the group
#pragma once

#include <cstdint>
#include <functional>

#include "core/device/host_device.h"
#include "core/device/memory.h"
#include "core/device/stream.h"
#include "core/error.h"

// CONVOY_DEVICE marks what is called with a Group, which only the device has.
#ifdef __CUDACC__
#define CONVOY_DEVICE __device__
#else
#define CONVOY_DEVICE
#endif

namespace convoy::cuda {

// Kernels index with 32 bits, which the device divides several times as fast as 64.
inline int32_t CheckedCount(int64_t count) {
  if (count > INT32_MAX) {
    throw Error(ExitCode::kUsage,
                fmt::format("a kernel over {} elements; at most {} fit", count, INT32_MAX),
                "give a smaller --batch-size per rank");
  }
  return static_cast<int32_t>(count);
}

constexpr int kGroupThreads = 256;

// Throws (kDevice) when the last kernel could not be started.
void RequireLaunched();

#ifdef __CUDACC__

// The threads of one block, that compute something together. Every thread of the group makes every
// call, in the same order.
class Group {
 public:
  __device__ explicit Group(double* scratch) : scratch_(scratch) {}
  __device__ int rank() const { return static_cast<int>(threadIdx.x); }
  __device__ int size() const { return static_cast<int>(blockDim.x); }
  // Every thread gets the result. The order of the sum is fixed: lanes, then warps.
  __device__ double Sum(double value) {
    return Reduce(value, 0.0, [](double a, double b) { return a + b; });
  }
  __device__ float Max(float value) {
    return static_cast<float>(Reduce(static_cast<double>(value), static_cast<double>(value),
                                     [](double a, double b) { return a > b ? a : b; }));
  }

 private:
  template <typename Combine>
  __device__ double Reduce(double value, double neutral, Combine combine) {
    for (int offset = 16; offset > 0; offset /= 2) {
      value = combine(value, __shfl_xor_sync(0xFFFFFFFFu, value, offset));
    }
    const int lane = rank() % 32, warp = rank() / 32, warps = size() / 32;
    __syncthreads();  // of the call before: everyone has read scratch_
    if (lane == 0) scratch_[warp] = value;
    __syncthreads();
    double result = warps > 0 ? scratch_[0] : neutral;
    for (int i = 1; i < warps; ++i) result = combine(result, scratch_[i]);
    return result;
  }

  double* scratch_;  // one per warp
};

template <typename Kernel>
__global__ void __launch_bounds__(kGroupThreads) RunForEach(Kernel kernel, int32_t count) {
  const int32_t i =
      static_cast<int32_t>(blockIdx.x) * kGroupThreads + static_cast<int32_t>(threadIdx.x);
  if (i < count) kernel(i);
}

template <typename Kernel>
__global__ void __launch_bounds__(kGroupThreads) RunForEachGroup(Kernel kernel) {
  __shared__ double scratch[kGroupThreads / 32];
  Group group(scratch);
  kernel(static_cast<int32_t>(blockIdx.x), group);
}

// kernel(i) for i in [0, count), queued on `stream`.
template <typename Kernel>
void ForEach(Stream& stream, int64_t count, const Kernel& kernel) {
  if (count == 0) return;
  const int32_t threads = CheckedCount(RoundUp(count, kGroupThreads));
  RunForEach<<<threads / kGroupThreads, kGroupThreads, 0,
               static_cast<cudaStream_t>(stream.native_handle())>>>(kernel,
                                                                    static_cast<int32_t>(count));
  RequireLaunched();
}

// kernel(i, group) for i in [0, count), a group of kGroupThreads each, queued on `stream`.
template <typename Kernel>
void ForEachGroup(Stream& stream, int64_t count, const Kernel& kernel) {
  if (count == 0) return;
  RunForEachGroup<<<CheckedCount(count), kGroupThreads, 0,
                    static_cast<cudaStream_t>(stream.native_handle())>>>(kernel);
  RequireLaunched();
}

#else

// Queues work of the host; tests/emulation implements it.
void Enqueue(Stream& stream, std::function<void()> work);

// A group of one.
class Group {
 public:
  int rank() const { return 0; }
  int size() const { return 1; }
  double Sum(double value) { return value; }
  float Max(float value) { return value; }
};

template <typename Kernel>
void ForEach(Stream& stream, int64_t count, const Kernel& kernel) {
  const int32_t end = CheckedCount(count);
  Enqueue(stream, [kernel, end] {
    for (int32_t i = 0; i < end; ++i) kernel(i);
  });
}

template <typename Kernel>
void ForEachGroup(Stream& stream, int64_t count, const Kernel& kernel) {
  const int32_t end = CheckedCount(count);
  Enqueue(stream, [kernel, end] {
    Group group;
    for (int32_t i = 0; i < end; ++i) kernel(i, group);
  });
}

#endif

}  // namespace convoy::cuda
