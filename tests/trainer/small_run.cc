#include "tests/trainer/small_run.h"

#include <algorithm>
#include <mutex>

#include "core/random.h"

namespace convoy {
namespace {

constexpr int kSteps = 20;
constexpr int64_t kSamples = 30, kBatch = 7;  // batches of 7, 7, 7, 7 and 2

}  // namespace

NetworkSpec SmallNetwork(bool batch_norm) {
  const auto conv = [](int out, int groups) {
    return Convolution{.out_channels = out,
                       .kernel = 3,
                       .padding = Padding::Same(1),
                       .groups = groups,
                       .weight = {{InitKind::kHe}},
                       .bias = {{InitKind::kConstant, 0.1}, 2, 0}};
  };
  const auto full = [](int out) {
    return FullyConnected{.out_features = out,
                          .weight = {{InitKind::kHe}},
                          .bias = {{InitKind::kConstant, 0.1}, 2, 0}};
  };
  const Layer norm = batch_norm ? Layer(BatchNorm{}) : Layer(Lrn{.alpha = 0.05, .groups = 2});
  NetworkSpec network{.name = "small",
                      .input = Shape{9, 9, 3},
                      .classes = 5,
                      .layers = {{"conv1", conv(8, 1)},
                                 {"norm1", norm},
                                 {"relu1", Activation{}},
                                 {"pool1", Pool{.kind = PoolKind::kMax, .kernel = 3, .stride = 2}},
                                 {"conv2", conv(12, 2)},
                                 {"relu2", Activation{}},
                                 {"conv3", conv(8, 1)},
                                 {"relu3", Activation{}},
                                 {"pool3", Pool{.kind = PoolKind::kMax, .kernel = 2, .stride = 2}},
                                 {"fc4", full(12)},
                                 {"relu4", Activation{}},
                                 {"drop4", Dropout{0.5, DropoutForm::k2012}},
                                 {"fc5", full(10)},
                                 {"relu5", Activation{}},
                                 {"drop5", Dropout{0.3, DropoutForm::kInverted}},
                                 {"fc6", full(5)},
                                 {"loss", SoftmaxCrossEntropy{0.1}}}};
  if (batch_norm) {
    const auto fc4 = std::find_if(network.layers.begin(), network.layers.end(),
                                  [](const LayerSpec& layer) { return layer.name == "fc4"; });
    network.layers.insert(fc4 + 1, {"norm4", BatchNorm{}});
  }
  return network;
}

RunResult RunSmall(const GridShape& grid, const SmallRunOptions& options) {
  RunResult result;
  std::vector<double> seen;
  std::mutex mutex;
  RunAsThreads(grid.ranks(), {}, [&](World& world) {
    const NetworkSpec network = SmallNetwork(options.batch_norm);
    OptimizerOptions optimizer{.rule = options.rule,
                               .lr = options.lr,
                               .momentum = 0.9,
                               .weight_decay = 1e-3,
                               .clip_norm = options.clip_norm};
    if (options.frozen) {
      optimizer.groups = {ParameterGroup::Parse("conv1.* lr-scheduler=piecewise:2=0")};
    }
    for (const std::string& group : options.groups) {
      optimizer.groups.push_back(ParameterGroup::Parse(group));
    }
    Harness harness(world,
                    {.network = network,
                     .grid = grid,
                     .batch = kBatch,
                     .accumulate = options.accumulate,
                     .optimizer = optimizer,
                     .preprocessing = {.mean = {120, 110, 100}, .standard_deviation = {60, 60, 60}},
                     .make_backend = options.make_backend,
                     .dtype = options.dtype,
                     .overlap = options.overlap,
                     .shard_update = options.shard_update,
                     .reduce_dtype = options.reduce_dtype,
                     .records = options.records,
                     .mutation = options.mutation});
    std::vector<double> losses;
    const int ahead = options.queues_ahead ? harness.steps_ahead() : 0;
    for (int step = 0; step < kSteps; ++step) {
      const int64_t per_epoch = (kSamples + kBatch - 1) / kBatch;
      const int64_t epoch = step / per_epoch, first = step % per_epoch * kBatch;
      const auto draw = [&](int64_t position, uint32_t block) {
        return RandomBlock({.seed = 5,
                            .purpose = Purpose::kSynthetic,
                            .epoch = static_cast<uint32_t>(epoch),
                            .position = static_cast<uint64_t>(position)},
                           block);
      };
      const int64_t count = std::min(kBatch, kSamples - first);
      const int64_t part = harness.MicroBatchSize(), parts = (count + part - 1) / part;
      for (int64_t micro = 0; micro < parts; ++micro) {
        const int64_t begin = micro * part;
        Batch batch = harness.MakeBatch(
            epoch, first + begin, std::min(part, count - begin),
            [&](int64_t position, int64_t i) {
              return static_cast<uint8_t>(draw(position, static_cast<uint32_t>(i))[0] >> 24);
            },
            [&](int64_t position) { return static_cast<int32_t>(draw(position, 9999)[1] % 5); });
        batch.micro = {.index = static_cast<int>(micro), .count = static_cast<int>(parts)};
        batch.global_count = count;
        batch.colour_scale = 1 / 1.1f;
        for (SampleInfo& sample : batch.samples) {
          if (sample.weight == 0) continue;
          const RandomWords words = draw(sample.position, 8888);
          sample.mirror = words[0] & 1;
          sample.colour_shift[1] = 10 * ToUniform(words[1]);
        }
        harness.QueueStep(batch, static_cast<double>(epoch));
      }
      if (step >= ahead) losses.push_back(harness.FinishStep());
    }
    for (int step = 0; step < ahead; ++step) losses.push_back(harness.FinishStep());
    RunResult own{.kernel_choices = harness.backend().kernel_choices(),
                  .why_not_recorded = harness.step().why_not_recorded(),
                  .losses = losses,
                  .weights = {},
                  .states = {}};
    const std::vector<ParameterSlice> parameters = MakePlan(network, {}, 0).parameters;
    GatherMasterWeights(harness.plan(), harness.store(), harness.stream(), harness.grid());
    for (const ParameterSlice& slice : parameters) {
      for (double w : harness.Uncut(harness.store().parameters(), slice.uncut.name)) {
        own.weights.push_back(w);
      }
    }
    for (size_t i = 0; i < harness.store().states().size(); ++i) {
      const Tensor state = harness.State(i);
      for (const ParameterSlice& slice : parameters) {
        for (double v : harness.Uncut(state, slice.uncut.name)) own.states.push_back(v);
      }
    }
    const std::lock_guard lock(mutex);
    if (seen.empty()) seen = own.losses;
    EXPECT_EQ(seen, own.losses) << "the ranks disagree";
    if (world.rank() == 0) result = own;
  });
  return result;
}

}  // namespace convoy
