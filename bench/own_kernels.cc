// Convoy's own CPU kernels at the sizes of alexnet2012: time, bytes per second, and the share of
// what memory gives in the same run. The vendor's layers are measured by `convoy bench layers`.
//
//   build/release/bench/own_kernels [--benchmark_filter=REGEX]      OMP_NUM_THREADS sets the
//   threads
//
// `of_stream` is (bytes that must be moved) / (time x measured bandwidth). Each operation is
// compared with the double-precision oracle before it is timed; a wrong one is an error and has no
// time.
#include <benchmark/benchmark.h>
#include <omp.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "bench/stream_limit.h"
#include "core/random.h"
#include "layers/backend.h"
#include "layers/network.h"
#include "layers/updater.h"

namespace convoy {
namespace {

constexpr int64_t kBatch = 128;

double StreamLimit() {
  static const double bytes_per_second = StreamBytesPerSecond(omp_get_max_threads());
  return bytes_per_second;
}

// Times `iteration`; `moved`: bytes that it must move; `images` that it works on, or 0.
template <typename Iteration>
void Time(benchmark::State& state, int64_t moved, int64_t images, Iteration&& iteration) {
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) iteration();
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  const double per_second = static_cast<double>(state.iterations()) / elapsed.count();
  const double bytes_per_second = static_cast<double>(moved) * per_second;
  state.counters["GB/s"] = 1e-9 * bytes_per_second;
  state.counters["of_stream"] = bytes_per_second / StreamLimit();
  if (images > 0) state.counters["images/s"] = static_cast<double>(images) * per_second;
}

void FillNormal(const Tensor& tensor, uint64_t seed) {
  const RandomKey key{.seed = seed, .purpose = Purpose::kSynthetic};
  for (int64_t i = 0; i < tensor.count(); ++i) {
    const double value = 10 * ToNormals(RandomBlock(key, static_cast<uint32_t>(i / 2)))[i % 2];
    if (tensor.dtype == DType::kFloat64) tensor.As<double>()[i] = value;
    if (tensor.dtype == DType::kFloat32) tensor.As<float>()[i] = static_cast<float>(value);
    if (tensor.dtype == DType::kBFloat16) {
      tensor.As<BFloat16>()[i] = BFloat16(static_cast<float>(value));
    }
  }
}

double ValueAt(const Tensor& tensor, int64_t i) {
  if (tensor.dtype == DType::kFloat64) return tensor.As<double>()[i];
  if (tensor.dtype == DType::kFloat32) return static_cast<double>(tensor.As<float>()[i]);
  return static_cast<double>(static_cast<float>(tensor.As<BFloat16>()[i]));
}

class IgnoreGradients final : public BackwardObserver {
 public:
  void GradientReady(int64_t, int64_t) override {}
  void WeightsReleased(int64_t, int64_t) override {}
};

// Layers without parameters, compiled for one backend.
class Segment {
 public:
  Segment(std::unique_ptr<Backend> backend, const SegmentSpec& spec, DType dtype, int64_t batch)
      : backend_(std::move(backend)), stream_(backend_->MakeStream()) {
    arenas_.parameter_layout = &empty_;
    arenas_.buffer_layout = &empty_;
    arenas_.gradients = {nullptr, backend_->master_dtype(), Shape{0}};
    network_ = backend_->Compile(spec, {.dtype = dtype, .batch = batch, .training = true}, arenas_);
    for (int64_t row = 0; row < batch; ++row) positions_.push_back(row);
    labels_.assign(static_cast<size_t>(batch), 0);
    weights_.assign(static_cast<size_t>(batch), 1);
    context_ = {.stream = stream_.get(),
                .training = true,
                .rows = {{labels_.data(), DType::kInt32, Shape{batch}},
                         {weights_.data(), DType::kFloat32, Shape{batch}},
                         {positions_.data(), DType::kInt64, Shape{batch}}}};
    FillNormal(network_->input(), 1);
    FillNormal(network_->output_gradient(), 2);
  }

  Network& network() { return *network_; }
  void Forward() { network_->Forward(context_); }
  void Backward() { network_->Backward(context_, observer_); }

 private:
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Stream> stream_;
  ArenaLayout empty_;
  NetworkArenas arenas_;
  std::unique_ptr<Network> network_;
  std::vector<int32_t> labels_;
  std::vector<float> weights_;
  std::vector<int64_t> positions_;
  StepContext context_;
  IgnoreGradients observer_;
};

// The largest difference, relative to the largest value.
double Difference(const Tensor& got, const Tensor& want) {
  double largest = 0, difference = 0;
  for (int64_t i = 0; i < want.count(); ++i) {
    largest = std::max(largest, std::abs(ValueAt(want, i)));
    difference = std::max(difference, std::abs(ValueAt(got, i) - ValueAt(want, i)));
  }
  return difference / largest;
}

bool AgreesWithOracle(const SegmentSpec& spec, DType dtype) {
  Segment cpu(MakeCpuBackend(omp_get_max_threads()), spec, dtype, 1);
  Segment oracle(MakeOracleBackend(omp_get_max_threads()), spec, DType::kFloat64, 1);
  // Both see the same numbers: a maximum must not move by rounding.
  for (int64_t i = 0; i < cpu.network().input().count(); ++i) {
    oracle.network().input().As<double>()[i] = ValueAt(cpu.network().input(), i);
  }
  cpu.Forward();
  oracle.Forward();
  cpu.Backward();
  oracle.Backward();
  // Two roundings of the stored type and one of the vectorised power.
  const double tolerance = dtype == DType::kFloat32 ? 1e-5 : 2e-2;
  return Difference(cpu.network().output(), oracle.network().output()) < tolerance &&
         Difference(cpu.network().input_gradient(), oracle.network().input_gradient()) < tolerance;
}

struct Case {
  const char* name;
  Shape input;
  std::vector<LayerSpec> layers;
};

void BenchSegment(benchmark::State& state, const Case& which, DType dtype, bool backward) {
  const NetworkSpec network{.name = which.name, .input = which.input, .layers = which.layers};
  SegmentSpec spec = WholeNetwork(network);
  spec.needs_input_gradient = true;
  if (!AgreesWithOracle(spec, dtype)) {
    state.SkipWithError("differs from the oracle");
    return;
  }
  Segment segment(MakeCpuBackend(omp_get_max_threads()), spec, dtype, kBatch);
  segment.Forward();
  // Forward reads x and writes y; backward reads x, y and dy and writes dx.
  const int64_t x = segment.network().input().bytes(), y = segment.network().output().bytes();
  Time(state, backward ? 2 * x + 2 * y : x + y, kBatch,
       [&] { backward ? segment.Backward() : segment.Forward(); });
}

void BenchUpdate(benchmark::State& state, DType dtype, const UpdateRule& rule) {
  constexpr int64_t kCount = 60'965'224;  // alexnet2012
  const auto backend = MakeCpuBackend(omp_get_max_threads());
  const auto stream = backend->MakeStream();
  std::vector<Buffer> memory;
  const auto allocate = [&](DType type) {
    memory.push_back(backend->Allocate(kCount * SizeOf(type)));
    return ViewOf(memory.back(), type, Shape{kCount});
  };
  UpdateArenas arenas{.parameters = allocate(DType::kFloat32)};
  arenas.compute = dtype == DType::kBFloat16 ? allocate(DType::kBFloat16) : arenas.parameters;
  arenas.gradients = allocate(DType::kFloat32);
  const int64_t states = std::ssize(StateNamesOf(rule));
  for (int64_t i = 0; i < states; ++i) arenas.states.push_back(allocate(DType::kFloat32));
  Buffer flag = backend->Allocate(sizeof(int32_t));
  arenas.non_finite = ViewOf(flag, DType::kInt32, Shape{1});
  UpdateOptions options{.rule = rule};
  options.ranges = {{.begin = 0, .count = kCount}};
  options.buckets = {{.first = 0, .count = 1}};
  const auto updater = backend->CompileUpdate(arenas, options);
  const ParameterRates rates{.lr = 0.01, .momentum = 0.9, .weight_decay = 5e-4};
  updater->SetRates(*stream, {&rates, 1});

  // From w = 1, g = 0.5 and empty states, the paper's rule and SGD give w = 0.994995, worked by
  // hand; Adam's first step has the size of the rate whatever the gradient.
  std::fill_n(arenas.parameters.As<float>(), kCount, 1.0f);
  std::fill_n(arenas.gradients.As<float>(), kCount, 0.5f);
  updater->Run(*stream, 0);
  stream->Synchronize();
  const float want = states == 1 ? 0.994995f : 0.99f;
  if (std::abs(arenas.parameters.As<float>()[kCount - 1] - want) > 1e-6f) {
    state.SkipWithError("one step from 1 does not give the number worked by hand");
    return;
  }
  // The weight and its states are read and written, the gradient is read, and the bf16 copy is
  // written.
  Time(state, kCount * (12 + 8 * states + (dtype == DType::kBFloat16 ? 2 : 0)), 0, [&] {
    updater->Run(*stream, 0);
    stream->Synchronize();
  });
}

const std::vector<Case>& Cases() {
  const Lrn lrn{.alpha_use = LrnAlpha::kDividedBySize, .groups = 2};
  static const std::vector<Case> cases{
      {"norm1+pool1", Shape{55, 55, 96}, {{"norm1", lrn}, {"pool1", Pool{}}}},
      {"norm2+pool2", Shape{27, 27, 256}, {{"norm2", lrn}, {"pool2", Pool{}}}},
      {"pool5", Shape{13, 13, 256}, {{"pool5", Pool{}}}},
      {"drop6", Shape{4096}, {{"drop6", Dropout{}}}}};
  return cases;
}

void Register() {
  std::vector<DType> types{DType::kFloat32};
  try {
    MakeCpuBackend(1)->RequireDType(DType::kBFloat16);
    types.push_back(DType::kBFloat16);
  } catch (const Error&) {  // this processor has no bf16: its figures are left out
  }
  for (const DType dtype : types) {
    const auto add = [&](const std::string& name, auto&& function) {
      benchmark::RegisterBenchmark((name + "/" + NameOf(dtype)).c_str(), function)
          ->Unit(benchmark::kMillisecond)
          ->UseRealTime();
    };
    for (const Case& which : Cases()) {
      for (const bool backward : {false, true}) {
        add(which.name + std::string(backward ? " backward" : " forward"),
            [=](benchmark::State& state) { BenchSegment(state, which, dtype, backward); });
      }
    }
    for (const UpdateRule& rule : {UpdateRule(PaperRule{}), UpdateRule(AdamRule{})}) {
      add("update " + NameOf(rule),
          [=](benchmark::State& state) { BenchUpdate(state, dtype, rule); });
    }
  }
}

}  // namespace
}  // namespace convoy

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::AddCustomContext("stream, GB/s", std::to_string(1e-9 * convoy::StreamLimit()));
  convoy::Register();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
