#include "tests/backend/compare.h"

#include <cmath>
#include <type_traits>

#include "core/random.h"

namespace convoy {
namespace {

// What Visit gives for an element of the tensor's type.
template <typename Visit>
auto WithType(DType dtype, Visit visit) {
  if (dtype == DType::kFloat64) return visit(double{});
  if (dtype == DType::kFloat32) return visit(float{});
  CONVOY_CHECK(dtype == DType::kBFloat16, "values of a {} tensor", NameOf(dtype));
  return visit(BFloat16{});
}

double ToDouble(double value) { return value; }
double ToDouble(float value) { return static_cast<double>(value); }
double ToDouble(BFloat16 value) { return static_cast<double>(static_cast<float>(value)); }

}  // namespace

std::vector<double> ValuesOf(Backend& backend, Stream& stream, const Tensor& tensor) {
  if (!tensor) return {};
  return WithType(tensor.dtype, [&](auto zero) {
    const auto elements = ElementsOf<decltype(zero)>(backend, stream, tensor);
    std::vector<double> values(elements.size());
    for (size_t i = 0; i < values.size(); ++i) values[i] = ToDouble(elements[i]);
    return values;
  });
}

void SetValues(Backend& backend, Stream& stream, const Tensor& tensor,
               const std::vector<double>& values) {
  WithType(tensor.dtype, [&](auto zero) {
    using T = decltype(zero);
    std::vector<T> elements(values.size());
    for (size_t i = 0; i < values.size(); ++i) {
      if constexpr (std::is_same_v<T, double>) {
        elements[i] = values[i];
      } else {
        elements[i] = T(static_cast<float>(values[i]));
      }
    }
    SetElements(backend, stream, tensor, elements);
  });
}

std::vector<double> RandomValues(int64_t count, uint64_t seed, double deviation) {
  std::vector<double> values(static_cast<size_t>(count));
  const RandomKey key{.seed = seed, .purpose = Purpose::kSynthetic};
  for (size_t i = 0; i < values.size(); ++i) {
    const auto normals = ToNormals(RandomBlock(key, static_cast<uint32_t>(i / 2)));
    const auto value = static_cast<float>(deviation * normals[i % 2]);
    values[i] = static_cast<double>(static_cast<float>(BFloat16(value)));
  }
  return values;
}

SegmentSpec SegmentOf(const Shape& input, const std::vector<Layer>& layers) {
  NetworkSpec network{.name = "test", .input = input, .layers = {}};
  for (size_t i = 0; i < layers.size(); ++i) {
    network.layers.push_back({"layer" + std::to_string(i), layers[i]});
  }
  SegmentSpec segment = WholeNetwork(network);
  segment.needs_input_gradient = true;
  return segment;
}

SegmentSpec SmallNetwork() {
  constexpr Activation kRelu{};
  const Convolution first{.out_channels = 16, .kernel = 5, .stride = 2};
  const Convolution second{
      .out_channels = 24, .kernel = 3, .padding = Padding::Same(1), .groups = 2};
  return SegmentOf(Shape{15, 13, 3}, {first, kRelu, Lrn{.groups = 2}, Pool{}, second, kRelu,
                                      FullyConnected{.out_features = 20}, kRelu, Dropout{},
                                      FullyConnected{.out_features = 10}, SoftmaxCrossEntropy{}});
}

Tolerance ToleranceOf(DType stored, int64_t length) {
  const double rounding = stored == DType::kBFloat16 ? 0x1p-9 : 0x1p-24;
  return {.relative = 2 * rounding,
          .of_rms = 16 * 0x1p-24 * std::sqrt(static_cast<double>(length))};
}

void ExpectClose(const std::string& what, const std::vector<double>& got,
                 const std::vector<double>& want, const Tolerance& tolerance) {
  ASSERT_EQ(got.size(), want.size()) << what;
  double squares = 0;
  for (double value : want) squares += value * value;
  const double rms = std::sqrt(squares / static_cast<double>(want.size()));
  size_t failures = 0, worst = 0;
  double worst_excess = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double allowed = tolerance.relative * std::abs(want[i]) + tolerance.of_rms * rms;
    const double excess = std::abs(got[i] - want[i]) / (allowed > 0 ? allowed : 1e-300);
    if (std::abs(got[i] - want[i]) <= allowed) continue;
    ++failures;
    if (!(excess <= worst_excess)) {
      worst_excess = excess;
      worst = i;
    }
  }
  if (failures == 0) return;
  ADD_FAILURE() << what << ": " << failures << " of " << want.size() << " differ; at " << worst
                << " got " << got[worst] << ", want " << want[worst] << ", " << worst_excess
                << " times what is allowed";
}

double DistanceOf(const std::vector<double>& got, const std::vector<double>& want) {
  EXPECT_EQ(got.size(), want.size());
  double difference = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    difference += (got[i] - want[i]) * (got[i] - want[i]);
    norm += want[i] * want[i];
  }
  return std::sqrt(difference / norm);
}

SegmentRun::SegmentRun(std::unique_ptr<Backend> backend, const SegmentSpec& segment,
                       const CompileOptions& options)
    : segment_(segment), backend_(std::move(backend)), stream_(backend_->MakeStream()) {
  AllocateArenas(options);
  Set(arenas_.parameters, RandomValues(parameter_layout_.count(), 1, 0.25));
  backend_->RefreshCompute(*stream_, arenas_.parameters, arenas_.compute);
  std::vector<double> running = RandomValues(buffer_layout_.count(), 2, 0.5);
  for (const LayerSite& site : SitesOf(segment_)) {
    for (const BufferInfo& buffer : site.buffers) {
      if (buffer.role != BufferRole::kRunningVariance) continue;
      const int64_t begin = buffer_layout_.Find(buffer.name).offset;
      for (int64_t i = begin; i < begin + buffer.shape.count(); ++i) {
        double& value = running[static_cast<size_t>(i)];
        value = 0.5 + std::abs(value);
      }
    }
  }
  Set(arenas_.buffers, running);
  context_ = {.stream = stream_.get(), .seed = 7, .epoch = 3, .loss_scale = 0.25};
  AllocateRows(options.batch);
  network_ = backend_->Compile(segment, options, arenas_);
}

void SegmentRun::AllocateArenas(const CompileOptions& options) {
  for (const LayerSite& site : SitesOf(segment_)) {
    for (const ParameterInfo& parameter : site.parameters) {
      parameter_layout_.Add(parameter.name, parameter.shape);
    }
    for (const BufferInfo& buffer : site.buffers) {
      buffer_layout_.Add(buffer.name, buffer.shape);
    }
  }
  const DType master = backend_->master_dtype();
  const auto allocate = [&](DType dtype, int64_t count) {
    memory_.push_back(backend_->Allocate(count * SizeOf(dtype)));
    return ViewOf(memory_.back(), dtype, Shape{count});
  };
  const int64_t count = parameter_layout_.count();
  arenas_.parameter_layout = &parameter_layout_;
  arenas_.parameters = allocate(master, count);
  arenas_.compute =
      options.dtype == DType::kBFloat16 ? allocate(options.dtype, count) : arenas_.parameters;
  if (options.training) arenas_.gradients = allocate(master, count);
  arenas_.buffer_layout = &buffer_layout_;
  arenas_.buffers = allocate(master, buffer_layout_.count());
}

void SegmentRun::AllocateRows(int64_t batch) {
  std::vector<int64_t> positions;
  for (int64_t n = 0; n < batch; ++n) {
    const bool is_padding = n > 0 && n + 1 == batch;
    labels_.push_back(is_padding ? -1 : static_cast<int32_t>(n));
    weights_.push_back(is_padding ? 0 : 1);
    positions.push_back(is_padding ? -1 : 1000 + n);
  }
  const auto upload = [&](const auto& elements, DType dtype) {
    memory_.push_back(backend_->Allocate(batch * SizeOf(dtype)));
    const Tensor tensor = ViewOf(memory_.back(), dtype, Shape{batch});
    SetElements(*backend_, *stream_, tensor, elements);
    return tensor;
  };
  context_.rows = {.labels = upload(labels_, DType::kInt32),
                   .weights = upload(weights_, DType::kFloat32),
                   .positions = upload(positions, DType::kInt64)};
}

std::vector<double> SegmentRun::Values(const Tensor& tensor) const {
  return ValuesOf(*backend_, *stream_, tensor);
}

void SegmentRun::Set(const Tensor& tensor, const std::vector<double>& values) const {
  SetValues(*backend_, *stream_, tensor, values);
}

std::vector<double> SegmentRun::Gradient(const std::string& name) const {
  return Values(parameter_layout_.View(arenas_.gradients, name));
}

void SegmentRun::SetInput(uint64_t seed, double deviation) const {
  SetInput(RandomValues(network_->input().count(), seed, deviation));
}

void SegmentRun::SetOutputGradient(const std::vector<double>& values) const {
  Set(network_->output_gradient(), values);
}

void SegmentRun::SetOutputGradient(uint64_t seed) const {
  const Tensor gradient = network_->output_gradient();
  if (gradient) SetOutputGradient(RandomValues(gradient.count(), seed));
}

void SegmentRun::SetLabelCount(int32_t classes) {
  for (size_t n = 0; n < labels_.size(); ++n) {
    if (weights_[n] > 0) labels_[n] = static_cast<int32_t>(n * 7 + 3) % classes;
  }
  SetElements(*backend_, *stream_, context_.rows.labels, labels_);
}

void SegmentRun::InitializeParameters(uint64_t seed) {
  for (const LayerSite& site : SitesOf(segment_)) {
    const int uncut_index = segment_.items[static_cast<size_t>(site.index)].uncut_index;
    for (const ParameterInfo& parameter : site.parameters) {
      const Tensor tensor = parameter_layout_.View(arenas_.parameters, parameter.name);
      const Buffer host = AllocateHost(tensor.bytes());
      Initialize(parameter, uncut_index, 0, seed, ViewOf(host, tensor.dtype, tensor.shape));
      backend_->CopyToDevice(*stream_, host.data(), tensor);
    }
  }
  backend_->RefreshCompute(*stream_, arenas_.parameters, arenas_.compute);
}

void SegmentRun::Forward(bool training) {
  context_.training = training;
  network_->Forward(context_);
}

std::vector<RecordingObserver::Report> SegmentRun::Backward() {
  RecordingObserver observer;
  network_->Backward(context_, observer);
  return observer.reports;
}

}  // namespace convoy
