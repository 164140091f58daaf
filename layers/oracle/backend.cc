#include <algorithm>
#include <cmath>
#include <cstring>

#include "layers/operations/host_backend.h"
#include "layers/operations/host_rows.h"
#include "layers/oracle/layer.h"
#include "layers/oracle/update.h"

namespace convoy {
namespace {

using oracle::OracleLayer;
using oracle::Site;

class OracleInput final : public InputStage {
 public:
  explicit OracleInput(const InputOptions& options) : options_(options), rows_(options.batch) {}

  void Load(Stream&, const Batch& batch, const Tensor& x) override {
    const int64_t height = batch.shape[1], width = batch.shape[2], channels = batch.shape[3];
    const auto* pixels = static_cast<const uint8_t*>(batch.pixels.data());
    double* out = x.As<double>();
    rows_.Load(batch.samples);
    for (int64_t n = 0; n < batch.shape[0]; ++n) {
      const SampleInfo& sample = batch.samples[static_cast<size_t>(n)];
      for (int64_t h = 0; h < height; ++h) {
        for (int64_t w = 0; w < width; ++w) {
          const int64_t source = sample.mirror ? width - 1 - w : w;
          for (int64_t c = 0; c < channels; ++c) {
            const double pixel = pixels[((n * height + h) * width + source) * channels + c];
            const double shifted =
                pixel - Mean((h * width + w) * channels + c, c) + sample.colour_shift[c];
            *out++ = shifted * batch.colour_scale / Deviation(c);
          }
        }
      }
    }
  }

  RowInfo rows() const override { return rows_.info(); }

 private:
  double Mean(int64_t place, int64_t channel) const {
    if (options_.mean.empty()) return 0;
    const bool per_pixel = static_cast<int64_t>(options_.mean.size()) == options_.crop.count();
    return options_.mean[static_cast<size_t>(per_pixel ? place : channel)];
  }
  double Deviation(int64_t channel) const {
    return options_.standard_deviation.empty()
               ? 1
               : options_.standard_deviation[static_cast<size_t>(channel)];
  }

  InputOptions options_;
  HostRows rows_;
};

class OracleNetwork final : public Network {
 public:
  OracleNetwork(const SegmentSpec& segment, const CompileOptions& options,
                const NetworkArenas& arenas, int threads)
      : arenas_(arenas), training_(options.training), accumulates_(options.accumulates) {
    AddActivation(segment.input.Prepend(options.batch));
    for (const LayerSite& place : SitesOf(segment)) {
      AddActivation(place.output.Prepend(options.batch));
      Stage stage;
      stage.site = MakeSite(segment.items[static_cast<size_t>(place.index)], place, threads);
      for (const ParameterInfo& parameter : place.parameters) {
        stage.parameters.push_back(&arenas.parameter_layout->Find(parameter.name));
      }
      stage.layer =
          std::visit([&](const auto& spec) { return Make(spec, stage.site); }, place.layer.layer);
      stages_.push_back(std::move(stage));
    }
    SetLearning(std::vector<bool>(stages_.size(), true), segment.needs_input_gradient);
    ends_in_loss_ = !segment.items.empty() &&
                    std::holds_alternative<SoftmaxCrossEntropy>(segment.items.back().layer.layer);
  }

  Tensor input() const override { return View(activations_.front()); }
  Tensor output() const override { return View(activations_.back()); }
  Tensor output_gradient() const override {
    return ends_in_loss_ || !training_ ? Tensor{} : View(gradients_.back());
  }
  Tensor input_gradient() const override {
    return input_gradient_ && training_ ? View(gradients_.front()) : Tensor{};
  }
  Tensor Activation(int index) const override {
    return View(activations_.at(static_cast<size_t>(index) + 1));
  }

  void Forward(const StepContext& context) override {
    for (size_t i = 0; i < stages_.size(); ++i) {
      stages_[i].layer->Forward(context, activations_[i].values.data(),
                                activations_[i + 1].values.data());
    }
  }

  void Backward(const StepContext& context, BackwardObserver& observer) override {
    CONVOY_CHECK(accumulates_ || !context.adds_gradients,
                 "the network was not compiled to add gradients");
    for (size_t i = stages_.size(); i-- > lowest_;) {
      Stage& stage = stages_[i];
      const bool wants_dx = i > lowest_ || input_gradient_;
      stage.layer->Backward(context, learns_[i], activations_[i].values.data(),
                            activations_[i + 1].values.data(), gradients_[i + 1].values.data(),
                            wants_dx ? gradients_[i].values.data() : nullptr);
      for (const ArenaEntry* entry : stage.parameters) {
        if (learns_[i]) observer.GradientReady(entry->offset, entry->shape.count());
        observer.WeightsReleased(entry->offset, entry->shape.count());
      }
    }
  }

  void SetLearning(const std::vector<bool>& learns, bool input_gradient) override {
    CONVOY_CHECK(learns.size() == stages_.size());
    learns_ = learns;
    input_gradient_ = input_gradient;
    lowest_ = 0;
    if (input_gradient) return;
    while (lowest_ < stages_.size() && (!learns_[lowest_] || stages_[lowest_].parameters.empty())) {
      ++lowest_;
    }
  }

  Tensor loss_sums() override { return stages_.back().layer->loss_sums(); }

 private:
  struct Values {
    Shape shape;
    std::vector<double> values;
  };
  struct Stage {
    Site site;
    std::unique_ptr<OracleLayer> layer;
    std::vector<const ArenaEntry*> parameters;
  };

  static Tensor View(const Values& values) {
    return {const_cast<double*>(values.values.data()), DType::kFloat64, values.shape};
  }

  void AddActivation(const Shape& shape) {
    activations_.push_back({shape, std::vector<double>(static_cast<size_t>(shape.count()))});
    gradients_.push_back(
        {shape, std::vector<double>(training_ ? static_cast<size_t>(shape.count()) : 0)});
  }

  Site MakeSite(const SegmentSpec::Item& item, const LayerSite& place, int threads) const {
    Site site{.item = item,
              .x = activations_[activations_.size() - 2].shape,
              .y = activations_.back().shape,
              .threads = threads};
    const ArenaLayout& layout = *arenas_.parameter_layout;
    for (const ParameterInfo& parameter : place.parameters) {
      const bool is_weight = parameter.role == ParameterRole::kWeight;
      (is_weight ? site.weight : site.bias) =
          layout.View(arenas_.parameters, parameter.name).As<double>();
      if (training_) {
        (is_weight ? site.weight_gradient : site.bias_gradient) =
            layout.View(arenas_.gradients, parameter.name).As<double>();
      }
    }
    for (const BufferInfo& buffer : place.buffers) {
      const bool is_mean = buffer.role == BufferRole::kRunningMean;
      (is_mean ? site.running_mean : site.running_variance) =
          arenas_.buffer_layout->View(arenas_.buffers, buffer.name).As<double>();
    }
    return site;
  }

  NetworkArenas arenas_;
  bool training_, accumulates_;
  bool ends_in_loss_ = false;
  bool input_gradient_ = false;
  size_t lowest_ = 0;  // no gradient is computed below this stage
  std::vector<bool> learns_;
  std::vector<Values> activations_, gradients_;
  std::vector<Stage> stages_;
};

class OracleBackend final : public HostBackend {
 public:
  using HostBackend::HostBackend;

  std::string Describe() const override {
    return fmt::format("oracle: double precision, plain loops, {} threads", threads_);
  }
  DType master_dtype() const override { return DType::kFloat64; }
  void RequireDType(DType dtype) const override {
    if (dtype != DType::kFloat64) {
      throw Error(ExitCode::kUsage,
                  fmt::format("--dtype {}: the oracle computes in fp64 alone", NameOf(dtype)));
    }
  }

  std::unique_ptr<InputStage> CompileInput(const InputOptions& options) override {
    RequireDType(options.dtype);
    return std::make_unique<OracleInput>(options);
  }
  std::unique_ptr<Network> Compile(const SegmentSpec& segment, const CompileOptions& options,
                                   const NetworkArenas& arenas) override {
    RequireDType(options.dtype);
    return std::make_unique<OracleNetwork>(segment, options, arenas, threads_);
  }

  std::unique_ptr<Updater> CompileUpdate(const UpdateArenas& arenas,
                                         const UpdateOptions& options) override {
    return oracle::MakeUpdater(arenas, options);
  }
  void RefreshCompute(Stream&, const Tensor&, const Tensor&) override {}
};

}  // namespace

std::unique_ptr<Backend> MakeOracleBackend(int threads) {
  return std::make_unique<OracleBackend>(threads);
}

}  // namespace convoy
