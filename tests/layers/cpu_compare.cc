#include "tests/layers/cpu_compare.h"

#include <cmath>

#include "core/random.h"

namespace convoy {
namespace {

template <typename T>
std::vector<double> ReadAs(const Tensor& tensor) {
  const T* data = tensor.As<T>();
  std::vector<double> values(static_cast<size_t>(tensor.count()));
  for (size_t i = 0; i < values.size(); ++i) {
    if constexpr (std::is_same_v<T, BFloat16>) {
      values[i] = static_cast<double>(static_cast<float>(data[i]));
    } else {
      values[i] = static_cast<double>(data[i]);
    }
  }
  return values;
}

template <typename T>
void WriteAs(const Tensor& tensor, const std::vector<double>& values) {
  T* data = tensor.As<T>();
  for (size_t i = 0; i < values.size(); ++i) {
    if constexpr (std::is_same_v<T, BFloat16>) {
      data[i] = BFloat16(static_cast<float>(values[i]));
    } else {
      data[i] = static_cast<T>(values[i]);
    }
  }
}

}  // namespace

std::vector<double> ValuesOf(const Tensor& tensor) {
  if (!tensor) return {};
  if (tensor.dtype == DType::kFloat64) return ReadAs<double>(tensor);
  if (tensor.dtype == DType::kFloat32) return ReadAs<float>(tensor);
  return ReadAs<BFloat16>(tensor);
}

void SetValues(const Tensor& tensor, const std::vector<double>& values) {
  ASSERT_EQ(static_cast<size_t>(tensor.count()), values.size());
  if (tensor.dtype == DType::kFloat64) return WriteAs<double>(tensor, values);
  if (tensor.dtype == DType::kFloat32) return WriteAs<float>(tensor, values);
  WriteAs<BFloat16>(tensor, values);
}

std::vector<DType> CpuTypes() {
  try {
    MakeCpuBackend(1)->RequireDType(DType::kBFloat16);
    return {DType::kFloat32, DType::kBFloat16};
  } catch (const Error&) {
    return {DType::kFloat32};
  }
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
  Shape input = segment.input;
  for (const SegmentSpec::Item& item : segment.items) {
    for (const ParameterInfo& parameter : ParametersOf(item.layer, input)) {
      parameter_layout_.Add(parameter.name, parameter.shape);
    }
    for (const BufferInfo& buffer : BuffersOf(item.layer, input)) {
      buffer_layout_.Add(buffer.name, buffer.shape);
    }
    input = OutputShape(item.layer, input);
  }
  const DType master = backend_->master_dtype();
  const Shape flat{parameter_layout_.count()};
  const auto allocate = [&](DType dtype, const Shape& shape, Buffer& buffer) {
    buffer = backend_->Allocate(shape.count() * SizeOf(dtype));
    return ViewOf(buffer, dtype, shape);
  };
  arenas_.parameter_layout = &parameter_layout_;
  arenas_.parameters = allocate(master, flat, parameters_);
  arenas_.compute = options.dtype == DType::kBFloat16 ? allocate(options.dtype, flat, compute_)
                                                      : arenas_.parameters;
  if (options.training) arenas_.gradients = allocate(master, flat, gradients_);
  arenas_.buffer_layout = &buffer_layout_;
  arenas_.buffers = allocate(master, Shape{buffer_layout_.count()}, buffers_);
  SetValues(arenas_.parameters, RandomValues(flat.count(), 1, 0.25));
  backend_->RefreshCompute(*stream_, arenas_.parameters, arenas_.compute);
  std::vector<double> running = RandomValues(buffer_layout_.count(), 2, 0.5);
  for (const ArenaEntry& entry : buffer_layout_.entries()) {
    if (!entry.name.ends_with(".running_variance")) continue;
    for (int64_t i = 0; i < entry.shape.count(); ++i) {
      double& value = running[static_cast<size_t>(entry.offset + i)];
      value = 0.5 + std::abs(value);
    }
  }
  SetValues(arenas_.buffers, running);

  for (int64_t n = 0; n < options.batch; ++n) {
    const bool is_padding = n > 0 && n + 1 == options.batch;
    labels_.push_back(is_padding ? -1 : static_cast<int32_t>(n));
    weights_.push_back(is_padding ? 0 : 1);
    positions_.push_back(is_padding ? -1 : 1000 + n);
  }
  const Shape rows{options.batch};
  context_ = {.stream = stream_.get(),
              .seed = 7,
              .epoch = 3,
              .rows = {{labels_.data(), DType::kInt32, rows},
                       {weights_.data(), DType::kFloat32, rows},
                       {positions_.data(), DType::kInt64, rows}},
              .loss_scale = 0.25};
  network_ = backend_->Compile(segment, options, arenas_);
}

std::vector<double> SegmentRun::Gradient(const std::string& name) const {
  return ValuesOf(parameter_layout_.View(arenas_.gradients, name));
}

void SegmentRun::SetLabelCount(int32_t classes) {
  for (size_t n = 0; n < labels_.size(); ++n) {
    if (weights_[n] > 0) labels_[n] = static_cast<int32_t>(n * 7 + 3) % classes;
  }
}

void SegmentRun::InitializeParameters(uint64_t seed) {
  Shape input = segment_.input;
  for (const SegmentSpec::Item& item : segment_.items) {
    for (const ParameterInfo& parameter : ParametersOf(item.layer, input)) {
      Initialize(parameter, item.uncut_index, 0, seed,
                 parameter_layout_.View(arenas_.parameters, parameter.name));
    }
    input = OutputShape(item.layer, input);
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

void CpuAndOracle::SetInput(uint64_t seed, double deviation) {
  const auto values = RandomValues(cpu.network().input().count(), seed, deviation);
  SetValues(cpu.network().input(), values);
  SetValues(oracle.network().input(), values);
}

void CpuAndOracle::SetOutputGradient(uint64_t seed) {
  if (!oracle.network().output_gradient()) return;
  const auto values = RandomValues(cpu.network().output_gradient().count(), seed);
  SetValues(cpu.network().output_gradient(), values);
  SetValues(oracle.network().output_gradient(), values);
}

}  // namespace convoy
