// tests/backend/compare.h - one segment on two backends, fed with the same numbers.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/tensor/dtype.h"
#include "layers/backend.h"
#include "layers/network.h"

namespace convoy {

// Reads and writes a tensor in `backend`'s memory, whatever its type. Both wait for all work queued
// on `stream`.
std::vector<double> ValuesOf(Backend& backend, Stream& stream, const Tensor& tensor);
void SetValues(Backend& backend, Stream& stream, const Tensor& tensor,
               const std::vector<double>& values);

// Returns the same for elements of the tensor's own type.
template <typename T>
std::vector<T> ElementsOf(Backend& backend, Stream& stream, const Tensor& tensor) {
  std::vector<T> elements(static_cast<size_t>(tensor.count()));
  CONVOY_CHECK(DTypeOf<T>::value == tensor.dtype, "elements of another type");
  if (!elements.empty()) backend.CopyToHost(stream, tensor, elements.data());
  return elements;
}
template <typename T>
void SetElements(Backend& backend, Stream& stream, const Tensor& tensor,
                 const std::vector<T>& elements) {
  CONVOY_CHECK(DTypeOf<T>::value == tensor.dtype, "elements of another type");
  CONVOY_CHECK(tensor.count() == std::ssize(elements), "another number of elements");
  if (!elements.empty()) backend.CopyToDevice(stream, elements.data(), tensor);
}

// Normal values, rounded to bf16 so that every type holds them exactly. A function of `seed`.
std::vector<double> RandomValues(int64_t count, uint64_t seed, double deviation = 1);

// Layers as a segment that wants its input's gradient, named layer0, layer1 and so on.
SegmentSpec SegmentOf(const Shape& input, const std::vector<Layer>& layers);

// Eleven layers from an image to the loss of 10 classes, with dropout. layer0, layer4, layer6 and
// layer9 have weights.
SegmentSpec SmallNetwork();

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
  Stream& stream() { return *stream_; }
  StepContext& context() { return context_; }
  const NetworkArenas& arenas() const { return arenas_; }
  const ArenaLayout& parameter_layout() const { return parameter_layout_; }

  // Tensors of this run, after all that was queued so far.
  std::vector<double> Values(const Tensor& tensor) const;
  void Set(const Tensor& tensor, const std::vector<double>& values) const;

  std::vector<double> Output() const { return Values(network_->output()); }
  std::vector<double> InputGradient() const { return Values(network_->input_gradient()); }
  std::vector<double> Gradient(const std::string& name) const;
  std::vector<double> Gradients() const { return Values(arenas_.gradients); }
  std::vector<double> BufferValues() const { return Values(arenas_.buffers); }
  LossSums Loss() const { return ReadLossSums(*stream_, network_->loss_sums()); }

  void SetInput(const std::vector<double>& values) const { Set(network_->input(), values); }
  void SetInput(uint64_t seed, double deviation = 1) const;
  void SetOutputGradient(const std::vector<double>& values) const;
  // Nothing to do for a segment that ends in the loss.
  void SetOutputGradient(uint64_t seed) const;
  void SetLabelCount(int32_t classes);
  // The numbers that the layers' specs ask for, instead of random ones.
  void InitializeParameters(uint64_t seed);

  void Forward(bool training);
  // Returns what was reported.
  std::vector<RecordingObserver::Report> Backward();

 private:
  void AllocateArenas(const CompileOptions& options);
  void AllocateRows(int64_t batch);

  SegmentSpec segment_;
  std::unique_ptr<Backend> backend_;
  ArenaLayout parameter_layout_, buffer_layout_;
  std::vector<Buffer> memory_;
  NetworkArenas arenas_;
  std::vector<int32_t> labels_;
  std::vector<float> weights_;
  StepContext context_;
  std::unique_ptr<Network> network_;
  std::unique_ptr<Stream> stream_;  // goes first, and ends the work that is queued
};

}  // namespace convoy
