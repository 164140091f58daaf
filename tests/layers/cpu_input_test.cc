// Finishing uint8 crops on the CPU backend, against the oracle.
#include <cmath>

#include "core/random.h"
#include "tests/layers/cpu_compare.h"

namespace convoy {
namespace {

constexpr int64_t kRows = 5;

Batch MakeBatch(const Shape& crop) {
  Batch batch{.colour_scale = 1 / 1.1f,
              .shape = crop.Prepend(kRows),
              .pixels = AllocateHost(crop.count() * kRows),
              .samples = {}};
  auto* pixels = static_cast<uint8_t*>(batch.pixels.data());
  for (int64_t i = 0; i < batch.shape.count(); ++i) {
    const RandomWords words = Philox({static_cast<uint32_t>(i), 0, 0, 0}, {5, 6});
    pixels[i] = static_cast<uint8_t>(words[0]);
  }
  for (int64_t n = 0; n < kRows; ++n) {
    const auto value = static_cast<float>(n);
    SampleInfo sample{.position = 40 + n,
                      .sample = n,
                      .label = static_cast<int32_t>(3 * n),
                      .weight = n == 3 ? 0.0f : 1.0f,
                      .mirror = static_cast<uint32_t>(n % 2)};
    for (int c = 0; c < 3; ++c) {
      sample.colour_shift[c] = 1.25f * value - 2.5f * static_cast<float>(c);
    }
    batch.samples.push_back(sample);
  }
  return batch;
}

std::vector<float> Means(int64_t count) {
  std::vector<float> means(static_cast<size_t>(count));
  for (size_t i = 0; i < means.size(); ++i) means[i] = 100 + static_cast<float>(i % 37) / 4;
  return means;
}

std::vector<double> LoadOn(Backend& backend, InputOptions options, DType dtype,
                           const Batch& batch) {
  options.dtype = dtype;
  const auto stage = backend.CompileInput(options);
  const auto stream = backend.MakeStream();
  const Buffer memory = backend.Allocate(batch.shape.count() * SizeOf(dtype));
  const Tensor x = ViewOf(memory, dtype, batch.shape);
  stage->Load(*stream, batch, x);
  for (size_t n = 0; n < batch.samples.size(); ++n) {
    EXPECT_EQ(stage->rows().labels.As<int32_t>()[n], batch.samples[n].label);
    EXPECT_EQ(stage->rows().weights.As<float>()[n], batch.samples[n].weight);
    EXPECT_EQ(stage->rows().positions.As<int64_t>()[n], batch.samples[n].position);
  }
  return ValuesOf(x);
}

// A value of 255 is computed to 2^-24 of itself in each of three steps; small differences of large
// numbers keep that absolute error.
TEST(CpuInput, AgreesWithTheOracleForEveryOption) {
  for (const Shape& crop : {Shape{13, 17, 3}, Shape{6, 5, 1}, Shape{1, 1, 3}, Shape{9, 32, 2}}) {
    const Batch batch = MakeBatch(crop);
    const std::vector<std::vector<float>> means = {{}, Means(crop.back()), Means(crop.count())};
    for (const auto& mean : means) {
      for (const bool has_deviation : {false, true}) {
        InputOptions options{.crop = crop, .batch = kRows, .mean = mean};
        if (has_deviation) {
          options.standard_deviation.assign(static_cast<size_t>(crop.back()), 57.5f);
          options.standard_deviation.back() = 58.25f;
        }
        const auto want = LoadOn(*MakeOracleBackend(1), options, DType::kFloat64, batch);
        for (const DType dtype : CpuTypes()) {
          const auto got = LoadOn(*MakeCpuBackend(2), options, dtype, batch);
          Tolerance tolerance = ToleranceOf(dtype);
          tolerance.of_rms = 1e-6;
          ExpectClose(crop.ToString() + " " + NameOf(dtype), got, want, tolerance);
        }
      }
    }
  }
}

TEST(CpuInput, RefusesABatchOfAnotherShape) {
  const auto backend = MakeCpuBackend(1);
  const auto stage = backend->CompileInput({.crop = Shape{4, 4, 3}, .batch = kRows});
  const Batch batch = MakeBatch(Shape{5, 4, 3});
  const Buffer memory = backend->Allocate(batch.shape.count() * 4);
  HostStream stream;
  EXPECT_THROW(stage->Load(stream, batch, ViewOf(memory, DType::kFloat32, batch.shape)), Error);
}

TEST(CpuBackend, SaysWhatItIsAndWhatItCannotDo) {
  const auto backend = MakeCpuBackend(2);
  EXPECT_EQ(backend->Describe().substr(0, 12), "cpu: oneDNN ");
  EXPECT_EQ(backend->master_dtype(), DType::kFloat32);
  EXPECT_NO_THROW(backend->RequireDType(DType::kFloat32));
  EXPECT_THROW(backend->RequireDType(DType::kFloat64), Error);
  EXPECT_THROW(backend->CompileInput({.crop = Shape{1, 1, 3}, .dtype = DType::kFloat64}), Error);
}

}  // namespace
}  // namespace convoy
