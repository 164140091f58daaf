#include "launch/options/run_options.h"

#include <fmt/format.h>

#include "core/text.h"
#include "layers/models.h"
#include "trainer/run/run_setup.h"

namespace convoy {
namespace {

OptionTable::Store OptionalText(std::optional<std::string>* target) {
  return [target](const std::string& value) { *target = value; };
}

std::string ModelNames() {
  std::vector<std::string> names;
  for (const ModelInfo& info : Models()) names.push_back(info.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

// "BRIGHTNESS,CONTRAST,SATURATION".
OptionTable::Store JitterStore(ColourJitter* target) {
  return [target](const std::string& value) {
    const std::vector<std::string> parts = Split(value, ',');
    double* const strengths[] = {&target->brightness, &target->contrast, &target->saturation};
    bool good = parts.size() == std::size(strengths);
    for (size_t i = 0; good && i < std::size(strengths); ++i) {
      const std::optional<double> number = ParseNumber(parts[i]);
      good = number && *number >= 0 && *number <= kMostJitter;
      if (good) *strengths[i] = *number;
    }
    if (!good) {
      throw Error(ExitCode::kUsage,
                  fmt::format("--colour-jitter {}: expected three numbers from 0 to {}, as "
                              "0.4,0.4,0.4 for brightness, contrast and saturation",
                              value, kMostJitter));
    }
  };
}

}  // namespace

OptionTable::Store GeometryStore(Geometry* target) {
  std::vector<std::pair<std::string, Geometry>> choices;
  for (const Geometry geometry : kGeometries) choices.emplace_back(NameOf(geometry), geometry);
  return store::Choice<Geometry>("geometry", choices, target);
}

void AddValSplitOption(OptionTable& table, const std::string& what, double* share) {
  constexpr double kMost = 0.999999;
  table.Add("val-split", "SHARE", "0",
            what + " (0.1: a tenth); which images depends only on their names",
            store::Number("val-split", 0, kMost, [=](double number) { *share = number; }));
}

void AddDrawOptions(OptionTable& table, DataConfig* data) {
  table.Add("images-per-draw", "N", "1",
            "neighbours in the order that share the place and mirror of their crops: 32 in the "
            "code of 2012",
            store::Integer("images-per-draw", 1, 1 << 20,
                           [=](int64_t n) { data->images_per_draw = static_cast<int>(n); }));
  table.Add("colour-jitter", "B,C,S", "0,0,0",
            "brightness, contrast and saturation change by factors of up to 1 +- these",
            JitterStore(&data->jitter));
}

void AddModelOptions(OptionTable& table, std::string* model, ModelOptions* options) {
  table.Group("Model");
  table.Add("model", "NAME", "alexnet2012", ModelNames(), store::Text(model));
  table.Add("classes", "N", "", "outputs (default: the classes of the data, else the model's own)",
            store::Integer("classes", 1, 1 << 24,
                           [=](int64_t n) { options->classes = static_cast<int>(n); }));
  table.Add(
      "input", "PIXELS", "", "height and width of a crop (default: the model's own)",
      store::Integer("input", 1, 4096, [=](int64_t n) { options->input = static_cast<int>(n); }));
  table.Add("activation", "KIND", "", "relu, tanh, sigmoid, leaky-relu[:SLOPE] or elu[:ALPHA]",
            OptionalText(&options->activation));
  table.Add("norm", "KIND", "",
            "replace the normalisations: bn or none; or set LRN's numbers: lrn:alpha=1e-4,k=2",
            OptionalText(&options->norm));
  table.Add("pooling", "KIND", "", "replace the poolings: max3s2, max2s2, avg3s2, ...",
            OptionalText(&options->pooling));
  table.Add("dropout", "RATE", "", "RATE, 2012:RATE or inverted:RATE; 0 removes it",
            OptionalText(&options->dropout));
  table.Add("init", "KIND", "",
            "how weights start: paper, he, xavier or torch (default: the "
            "model's own)",
            OptionalText(&options->init));
  table.Add("label-smoothing", "SHARE", "0", "share of the target that all classes have alike",
            store::Number("label-smoothing", 0, 0.999,
                          [=](double share) { options->label_smoothing = share; }));
}

void AddComputeOptions(OptionTable& table, ComputeConfig* compute, WorldOptions* world) {
  table.Group("Ranks and processors");
  table.Add(
      "towers", "N", "1", "ranks that cut one network between them: 1, or the paper's 2",
      store::Integer("towers", 1, 1024, [=](int64_t n) { compute->towers = static_cast<int>(n); }));
  table.Add("fc-shards", "N", "1",
            "ranks that run the convolutions on images of their own and cut the fully connected "
            "layers between them (One weird trick)",
            store::Integer("fc-shards", 1, 1 << 20,
                           [=](int64_t n) { compute->fc_shards = static_cast<int>(n); }));
  table.Add("replicas", "N", "0", "copies of the network; 0: ranks / (towers x fc-shards)",
            store::Integer("replicas", 0, 1 << 20,
                           [=](int64_t n) { compute->replicas = static_cast<int>(n); }));
  table.Add("backend", "KIND", "auto",
            "auto (CUDA where every rank has a device), cuda, cpu, or oracle (double precision "
            "and slow, for checks)",
            store::Choice<BackendKind>("backend",
                                       {{"auto", BackendKind::kAuto},
                                        {"cuda", BackendKind::kCuda},
                                        {"cpu", BackendKind::kCpu},
                                        {"oracle", BackendKind::kOracle}},
                                       &compute->backend));
  table.Add("dtype", "TYPE", "fp32", "of activations: fp32 or bf16 (the oracle: fp64)",
            store::Choice<DType>(
                "dtype",
                {{"fp32", DType::kFloat32}, {"bf16", DType::kBFloat16}, {"fp64", DType::kFloat64}},
                &compute->dtype));
  table.Add(
      "threads", "N", "0",
      "computing threads per rank; 0: the rank's share of the processors, or of the container's "
      "quota of them",
      store::Integer("threads", 0, 4096,
                     [=](int64_t n) { compute->threads = static_cast<int>(n); }));
  table.Add("share-device", "on|off", "off", "let ranks of a host compute on one CUDA device",
            store::Switch("share-device", &compute->share_device));
  table.Add("communicator", "KIND", "auto",
            "what carries collectives between CUDA devices: nccl, mpi (through host memory) or "
            "auto (NCCL where it can)",
            store::Choice<CommunicatorKind>("communicator",
                                            {{"auto", CommunicatorKind::kAuto},
                                             {"nccl", CommunicatorKind::kNccl},
                                             {"mpi", CommunicatorKind::kMpi}},
                                            &compute->communicator));
  table.Add("tf32", "on|off", "off", "on CUDA, let fp32 products round their inputs to TF32",
            store::Switch("tf32", &compute->tf32));
  table.Add("cuda-graph", "on|off", "on",
            "on CUDA, record a step once and queue the recording; the numbers are the same",
            store::Switch("cuda-graph", &compute->record_steps));
  table.Add("workspace", "MB", "0",
            "on CUDA, memory that one product may use besides its own; 0: 8 % of the device's, and "
            "1000 at least",
            store::Integer("workspace", 0, 1 << 20,
                           [=](int64_t n) { compute->workspace_bytes = n * 1'000'000; }));
  table.Add("numa", "on|off", "on",
            "on CUDA, run on the processors of the NUMA node that the device belongs to",
            store::Switch("numa", &compute->bind_to_node));
  table.Add("kernel-cache", "PATH", "",
            "on CUDA, folder where chosen kernels are kept for the next run, or none (default: "
            "$XDG_CACHE_HOME/convoy or ~/.cache/convoy)",
            store::Text(&compute->kernel_cache));
  table.Add("deadline", "SECONDS", "600",
            "give up a rank that is alive, but late by so much; 0: never",
            store::Number("deadline", 0, 1e9,
                          [=](double s) { world->deadline_s = compute->deadline_s = s; }));
  table.Add("lost-after", "SECONDS", "20",
            "a rank that gives no sign of life for so long is lost, and ends the run; 0: only the "
            "deadline counts",
            store::Number("lost-after", 0, 1e9, [=](double s) { world->silence_s = s; }));
}

void AddDataOptions(OptionTable& table, DataConfig* data, ImagesFor use) {
  const bool evaluates = use == ImagesFor::kCheckpoint;
  table.Group("Images");
  table.Add("devkit", "PATH", "",
            "ILSVRC development kit (folder or archive): the truth of the "
            "official validation archive",
            store::Text(&data->devkit));
  table.Add("index-folder", "PATH", "", "where indexes of archives are kept (default: beside them)",
            store::Text(&data->index_folder));
  const std::string by_checkpoint = evaluates ? " (default: as in the checkpoint)" : "";
  table.Add("geometry", "KIND", evaluates ? "" : "square2012",
            "square2012 (short side to 256, centre square, crop from it), rectangle (crop from the "
            "whole), squash (both sides to 256), random-resized (a part of random area and shape; "
            "evaluation: rectangle)" +
                by_checkpoint,
            GeometryStore(&data->geometry));
  table.Add(
      "resize", "PIXELS", evaluates ? "" : "0",
      "short side before the crop; 0: 256 for a crop of 224, in "
      "proportion, and the crop itself below 64" +
          by_checkpoint,
      store::Integer("resize", 0, 65536, [=](int64_t n) { data->resize = static_cast<int>(n); }));
  table.Add(
      "workers,j", "N", "2", "decoding threads per rank",
      store::Integer("workers", 1, 1024, [=](int64_t n) { data->workers = static_cast<int>(n); }));
  table.Add("read-ahead", "MB", "64",
            "images of an archive that the system is asked to read before they are needed; 0: none",
            store::Integer("read-ahead", 0, 1 << 20,
                           [=](int64_t n) { data->read_ahead_bytes = n * 1'000'000; }));
  table.Add("dct-scaling", "on|off", "off",
            "decode large JPEGs at 1/2 or 1/4 where that is enough: faster, other pixels",
            store::Switch("dct-scaling", &data->dct_scaling));
  AddBadSampleOptions(table, data, use);
}

void AddBadSampleOptions(OptionTable& table, DataConfig* data, ImagesFor use) {
  const bool evaluates = use == ImagesFor::kCheckpoint;
  std::vector<std::pair<std::string, BadSamplePolicy>> policies = {
      {"drop", BadSamplePolicy::kDrop}, {"fail", BadSamplePolicy::kFail}};
  if (!evaluates) policies.insert(policies.begin(), {"substitute", BadSamplePolicy::kSubstitute});
  table.Add("bad-samples", "POLICY", policies[0].first,
            evaluates ? "images that cannot be decoded: drop, fail"
                      : "images that cannot be decoded: substitute (another one, always the same; "
                        "in an evaluation: drop), drop, fail",
            store::Choice<BadSamplePolicy>("bad-samples", policies, &data->bad_samples));
  table.Add(
      "bad-limit", "N", "",
      "end the run after more bad images than this in an epoch, over all ranks "
      "(default: 0.1 %, at least 8; never all)",
      store::Integer("bad-limit", 0, INT64_MAX, [=](int64_t n) { data->bad_sample_limit = n; }));
}

}  // namespace convoy
