// Finishing uint8 crops, against the oracle.
#include <cstring>

#include "core/random.h"
#include "tests/backend/tested.h"

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
  const Buffer memory = backend.Allocate(batch.shape.count() * SizeOf(dtype));
  const auto stream = backend.MakeStream();
  const Tensor x = ViewOf(memory, dtype, batch.shape);
  stage->Load(*stream, batch, x);
  const RowInfo rows = stage->rows();
  const auto labels = ElementsOf<int32_t>(backend, *stream, rows.labels);
  const auto weights = ElementsOf<float>(backend, *stream, rows.weights);
  const auto positions = ElementsOf<int64_t>(backend, *stream, rows.positions);
  for (size_t n = 0; n < batch.samples.size(); ++n) {
    EXPECT_EQ(labels[n], batch.samples[n].label);
    EXPECT_EQ(weights[n], batch.samples[n].weight);
    EXPECT_EQ(positions[n], batch.samples[n].position);
  }
  return ValuesOf(backend, *stream, x);
}

// A value of 255 is computed to 2^-24 of itself in each of three steps; small differences of large
// numbers keep that absolute error.
TEST(Input, AgreesWithTheOracleForEveryOption) {
  // Lines of one vector after another, and those that vectors cross.
  for (const Shape& crop : {Shape{13, 17, 3}, Shape{6, 5, 1}, Shape{1, 1, 3}, Shape{9, 32, 2},
                            Shape{3, 227, 3}, Shape{5, 24, 3}, Shape{4, 16, 1}, Shape{7, 11, 2}}) {
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
        for (const DType dtype : TestedTypes()) {
          const auto got = LoadOn(*MakeTestedBackend(2), options, dtype, batch);
          Tolerance tolerance = ToleranceOf(dtype);
          tolerance.of_rms = 1e-6;
          ExpectClose(crop.ToString() + " " + NameOf(dtype), got, want, tolerance);
        }
      }
    }
  }
}

// The next batch comes in the same memory while the device may still be busy with this one.
TEST(Input, NeedsTheBatchNoLongerThanTheCall) {
  const Shape crop{64, 64, 3};
  const auto backend = MakeTestedBackend(2);
  const InputOptions options{.crop = crop, .batch = kRows};
  Batch batch = MakeBatch(crop);
  const auto want = LoadOn(*backend, options, DType::kFloat32, batch);
  const auto stage = backend->CompileInput(options);
  const Buffer memory[2] = {backend->Allocate(batch.shape.count() * 4),
                            backend->Allocate(batch.shape.count() * 4)};
  const auto stream = backend->MakeStream();
  const Tensor first = ViewOf(memory[0], DType::kFloat32, batch.shape);
  for (int i = 0; i < 10; ++i) {
    stage->Load(*stream, batch, first);
    std::memset(batch.pixels.data(), 99, static_cast<size_t>(batch.shape.count()));
    for (SampleInfo& sample : batch.samples) sample.mirror = 0;
    stage->Load(*stream, batch, ViewOf(memory[1], DType::kFloat32, batch.shape));
    batch = MakeBatch(crop);
  }
  EXPECT_EQ(ValuesOf(*backend, *stream, first), want);
}

TEST(Input, RefusesABatchOfAnotherShape) {
  const auto backend = MakeTestedBackend(1);
  const auto stage = backend->CompileInput({.crop = Shape{4, 4, 3}, .batch = kRows});
  const Batch batch = MakeBatch(Shape{5, 4, 3});
  const Buffer memory = backend->Allocate(batch.shape.count() * 4);
  const auto stream = backend->MakeStream();
  EXPECT_THROW(stage->Load(*stream, batch, ViewOf(memory, DType::kFloat32, batch.shape)), Error);
}

TEST(Backend, RefusesTypesThatItCannotComputeIn) {
  const auto backend = MakeTestedBackend(2);
  EXPECT_EQ(backend->master_dtype(), DType::kFloat32);
  EXPECT_NO_THROW(backend->RequireDType(DType::kFloat32));
  EXPECT_THROW(backend->RequireDType(DType::kFloat64), Error);
  EXPECT_THROW(backend->CompileInput({.crop = Shape{1, 1, 3}, .dtype = DType::kFloat64}), Error);
}

}  // namespace
}  // namespace convoy
