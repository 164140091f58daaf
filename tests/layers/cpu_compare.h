// tests/layers/cpu_compare.h - one segment on two backends, fed with the same numbers.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "layers/layers.h"

namespace convoy {

// What a tensor holds, and back, whatever its type.
std::vector<double> ValuesOf(const Tensor& tensor);
void SetValues(const Tensor& tensor, const std::vector<double>& values);

// The types that the CPU backend computes in on this machine: fp32, and bf16 where there is
// AVX-512.
std::vector<DType> CpuTypes();

// Normal values, rounded to bf16 so that every type holds them exactly. A function of `seed`.
std::vector<double> RandomValues(int64_t count, uint64_t seed, double deviation = 1);

// One layer as a segment that wants its input's gradient.
SegmentSpec SegmentOf(const Shape& input, const std::vector<Layer>& layers);

// |got - want| <= relative * |want| + of_rms * rms(want), for every element.
struct Tolerance {
  double relative = 0;
  double of_rms = 0;
};
// Two roundings to `stored`, and sums of `length` products in fp32: their error grows with the
// square root of the length; 16 standard deviations are allowed.
Tolerance ToleranceOf(DType stored, int64_t length = 1);
void ExpectClose(const std::string& what, const std::vector<double>& got,
                 const std::vector<double>& want, const Tolerance& tolerance);
// |got - want| / |want|, Euclidean norms over the tensor.
double DistanceOf(const std::vector<double>& got, const std::vector<double>& want);

// Notes what Backward reports, in order.
class RecordingObserver final : public BackwardObserver {
 public:
  enum class Kind { kReady, kReleased };
  struct Report {
    Kind kind;
    int64_t begin, count;
    bool operator==(const Report&) const = default;
  };

  void GradientReady(int64_t begin, int64_t count) override {
    reports.push_back({Kind::kReady, begin, count});
  }
  void WeightsReleased(int64_t begin, int64_t count) override {
    reports.push_back({Kind::kReleased, begin, count});
  }

  std::vector<Report> reports;
};

// A compiled segment with arenas and rows of its own. Every number that is not set is the same on
// every backend. The last of several rows has weight 0, position -1 and label -1, as padding has.
class SegmentRun {
 public:
  SegmentRun(std::unique_ptr<Backend> backend, const SegmentSpec& segment,
             const CompileOptions& options);

  Network& network() { return *network_; }
  Backend& backend() { return *backend_; }
  StepContext& context() { return context_; }
  const NetworkArenas& arenas() const { return arenas_; }
  const ArenaLayout& parameter_layout() const { return parameter_layout_; }

  std::vector<double> Gradient(const std::string& name) const;
  std::vector<double> BufferValues() const { return ValuesOf(arenas_.buffers); }
  void SetLabelCount(int32_t classes);
  // The numbers that the layers' specs ask for, instead of random ones.
  void InitializeParameters(uint64_t seed);

  void Forward(bool training);
  // Returns what was reported.
  std::vector<RecordingObserver::Report> Backward();

 private:
  SegmentSpec segment_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Stream> stream_;
  ArenaLayout parameter_layout_, buffer_layout_;
  Buffer parameters_, compute_, gradients_, buffers_;
  NetworkArenas arenas_;
  std::vector<int32_t> labels_;
  std::vector<float> weights_;
  std::vector<int64_t> positions_;
  StepContext context_;
  std::unique_ptr<Network> network_;
};

// The CPU backend and the oracle on one segment.
struct CpuAndOracle {
  CpuAndOracle(const SegmentSpec& segment, DType dtype, int64_t batch, int threads = 2)
      : cpu(MakeCpuBackend(threads), segment, {.dtype = dtype, .batch = batch}),
        oracle(MakeOracleBackend(threads), segment, {.dtype = DType::kFloat64, .batch = batch}) {}

  void SetInput(uint64_t seed, double deviation = 1);
  void SetOutputGradient(uint64_t seed);

  SegmentRun cpu, oracle;
};

}  // namespace convoy
