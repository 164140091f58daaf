// tests/backend/tested.h - the backend that a program of these tests is about: one of
// tested_cpu.cc, tested_emulated.cc and tested_cuda.cc.
#pragma once

#include <memory>
#include <vector>

#include "layers/backend.h"
#include "layers/network.h"
#include "tests/backend/compare.h"

namespace convoy {

// `threads`: of the CPU backend. `choices`: those of a backend that is to give the same bits.
std::unique_ptr<Backend> MakeTestedBackend(int threads, const KernelChoices& choices = {});

// Only in the emulated and the CUDA program.
std::unique_ptr<Backend> MakeTestedCudaBackend(const CudaOptions& options);

// Returns the types that it computes in on this machine: fp32, and bf16 if the CPU has AVX-512.
std::vector<DType> TestedTypes();

// Returns whether layers that run as one operation give the bits that they give one by one. On a
// real device a product without its ReLU may be computed by another kernel, which sums in another
// order, and kernels contract multiplications and additions as nvcc likes.
bool FusionKeepsBits();

// Returns whether a real CUDA device is tested.
bool IsOnADevice();

// Products are plain loops of one thread: a large network takes minutes.
bool IsEmulated();

// The tested backend and the oracle on one segment.
struct TestedAndOracle {
  TestedAndOracle(const SegmentSpec& segment, DType dtype, int64_t batch)
      : tested(MakeTestedBackend(2), segment, {.dtype = dtype, .batch = batch}),
        oracle(MakeOracleBackend(2), segment, {.dtype = DType::kFloat64, .batch = batch}) {}

  // The same numbers for both.
  void SetInput(const std::vector<double>& values) {
    for (SegmentRun* run : {&tested, &oracle}) run->SetInput(values);
  }
  void SetInput(uint64_t seed, double deviation = 1) {
    SetInput(RandomValues(tested.network().input().count(), seed, deviation));
  }
  // Nothing to do for a segment that ends in the loss.
  void SetOutputGradient(uint64_t seed) {
    for (SegmentRun* run : {&tested, &oracle}) run->SetOutputGradient(seed);
  }

  SegmentRun tested, oracle;
};

}  // namespace convoy
