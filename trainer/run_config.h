// trainer/run_config.h - everything that a run can be told, resolved and typed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "comm/buckets.h"
#include "comm/grid.h"
#include "core/tensor/dtype.h"
#include "dataloader/crop_options.h"
#include "dataloader/loader.h"
#include "layers/models.h"
#include "trainer/step/optimizer.h"
#include "trainer/step/schedule.h"

namespace convoy {

enum class BackendKind { kAuto, kCpu, kCuda, kOracle };

// What is subtracted from the pixels, and what they are divided by.
enum class MeanKind {
  kImage,    // the central piece of the training set's mean image, as in 2012
  kChannel,  // the training set's mean per channel
  kValues,   // given numbers
  kNone,
};

// Where computation runs, and how the ranks divide the network.
struct ComputeConfig {
  BackendKind backend = BackendKind::kAuto;
  DType dtype = DType::kFloat32;
  int threads = 0;  // of the layers, per rank; 0: the rank's share of the processors it may use
  int towers = 1;
  int fc_shards = 1;
  int replicas = 0;  // 0: world size / (towers x fc_shards)
  // Only on CUDA:
  bool tf32 = false;            // fp32 products may round their inputs to TF32
  bool record_steps = true;     // a step is recorded once, and queued as a whole from then on
  bool share_device = false;    // two ranks may compute on one device
  int64_t workspace_bytes = 0;  // see CudaOptions
  CommunicatorKind communicator = CommunicatorKind::kAuto;
  bool bind_to_node = true;  // run on the processors of the NUMA node of the device
  std::string kernel_cache;  // folder of chosen kernels; empty: the user's cache; "none": not kept
  double deadline_s = 600;   // how long the device may wait for other ranks; 0: for ever
};

// How images become crops.
struct DataConfig {
  std::string devkit;
  std::string index_folder;
  Geometry geometry = Geometry::kSquare2012;
  int resize = 0;   // 0: 256 for a crop of 224, in proportion; the crop itself below 64
  int workers = 2;  // decoding threads per rank
  int queue = 3;
  int64_t read_ahead_bytes = 64'000'000;
  bool dct_scaling = false;
  // Only in training:
  int images_per_draw = 1;
  ColourJitter jitter;
  BadSamplePolicy bad_samples = BadSamplePolicy::kSubstitute;
  std::optional<int64_t> bad_sample_limit;
};

struct RunConfig {
  std::string data, validation;
  double val_split = 0;  // share of the training images that is held out for validation; 0: none
  DataConfig loading;

  std::string model = "alexnet2012";
  ModelOptions model_options;

  int epochs = 90;
  std::optional<int64_t> steps;  // ends the run after so many steps, if that is sooner
  int64_t batch_size = 128;      // global
  int accumulate = 1;            // micro-batches of a step
  ShardUpdate shard_update = ShardUpdate::kAuto;
  OptimizerOptions optimizer;
  uint64_t seed = 0;

  bool augment = true;  // random place and mirror
  ColourNoise colour = ColourNoise::k2012;
  double colour_strength = 0.1;
  Schedule colour_scheduler;
  MeanKind mean = MeanKind::kImage;
  std::vector<float> mean_values;         // kValues
  std::vector<float> standard_deviation;  // per channel; empty: not divided

  ComputeConfig compute;
  Overlap overlap = Overlap::kOn;
  DType reduce_dtype = DType::kFloat32;  // of gradients on the wire

  std::string output_dir = "runs/default";
  std::string resume = "auto";   // auto, none, or a checkpoint
  int64_t checkpoint_every = 0;  // steps, besides the end of every epoch; 0: none
  // Steps after which ranks that hold the same weights compare them, and before each checkpoint
  // too; 0: never.
  int64_t check_replicas = 0;
  int keep = 2;
  int eval_every = 1;  // epochs; 0: never
  int views = 1;
  int64_t print_freq = 20;  // steps

  // The resolved options as text (core/settings_text.h), for config.cfg and the checkpoint; without
  // `resume`, which is of one start.
  std::string settings;
};

// Evaluation of checkpoints, one or an ensemble.
struct EvaluateConfig {
  std::vector<std::string> checkpoints;
  std::string data;
  double val_split = 0;  // evaluates the share of `data` that such a training held out; 0: all
  DataConfig loading;    // but for its geometry and resize
  // In place of those of the checkpoint.
  std::optional<Geometry> geometry;
  std::optional<int> resize;
  ComputeConfig compute;
  int64_t batch_size = 128;  // images, global
  int views = 1;
  bool confusion = false;
};

}  // namespace convoy
