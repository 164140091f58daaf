#include "launch/commands/program_table.h"

#include <fmt/format.h>

#include <iostream>
#include <map>
#include <string>

#include <nlohmann/json.hpp>

#include "core/host/json_line.h"
#include "core/text.h"
#include "dataloader/loader.h"
#include "launch/options/optimizer_options.h"
#include "layers/updater.h"
#include "trainer/plan/program.h"
#include "trainer/plan/rank_memory.h"

namespace convoy {
namespace {

using Json = nlohmann::ordered_json;

// What a step comes to on a rank.
struct StepNumbers {
  int micro_batches = 1;
  int64_t rows = 1;  // of a micro-batch, of a shard
  std::vector<OperationCost> costs;
  std::vector<MemoryUse> memory;

  int64_t flops() const {
    int64_t sum = 0;
    for (const OperationCost& cost : costs) sum += cost.flops();
    return sum;
  }
  int64_t bytes() const {
    int64_t sum = 0;
    for (const OperationCost& cost : costs) sum += cost.bytes();
    return sum;
  }
  int64_t memory_bytes() const {
    int64_t sum = 0;
    for (const MemoryUse& use : memory) sum += use.bytes;
    return sum;
  }
};

StepNumbers NumbersOf(const RankPlan& plan, const StepSettings& settings) {
  const LoaderOptions loader{.global_batch = settings.batch_size,
                             .micro_batches = settings.accumulate};
  const Share share{.replicas = plan.grid.row_parts(), .members = plan.grid.towers};
  StepNumbers step{.micro_batches = loader.MicroBatchesOf(settings.batch_size),
                   .rows = share.Rows(loader.MicroBatchSize()) * plan.grid.towers};
  const std::vector<BucketRange> buckets = PlanBuckets(plan);
  const bool needs_norms = NeedsNorms({.rule = settings.rule, .clip_norm = settings.clip_norm});
  step.costs =
      CostsOf(plan, buckets,
              TrainingProgram(plan, buckets,
                              {.micro_batches = step.micro_batches, .needs_norms = needs_norms}),
              {.rows = step.rows, .dtype = settings.dtype, .reduce_dtype = settings.reduce_dtype});
  step.memory =
      MemoryOf(plan, buckets,
               {.rows = step.rows,
                .micro_batches = step.micro_batches,
                .dtype = settings.dtype,
                .reduce_dtype = settings.reduce_dtype,
                .optimizer_states = static_cast<int>(StateNamesOf(settings.rule).size())});
  return step;
}

const char* NameOf(CostStream stream) {
  switch (stream) {
    case CostStream::kCompute:
      return "compute";
    case CostStream::kCommunication:
      return "communication";
    case CostStream::kUpdate:
      break;
  }
  return "update";
}

Json ToJson(const std::vector<CollectiveCost>& collectives) {
  Json rows = Json::array();
  for (const CollectiveCost& one : collectives) {
    rows.push_back({{"operation", one.what},
                    {"collective", NameOf(one.kind)},
                    {"over", NameOf(one.axes)},
                    {"calls", one.calls},
                    {"bytes", one.bytes}});
  }
  return rows;
}

// "all-gather over shards", "4 x all-reduce over replicas".
std::string Describe(const OperationCost& cost) {
  std::map<std::string, int64_t> calls;
  for (const auto* part : {&cost.collectives, &cost.statistics}) {
    for (const CollectiveCost& one : *part) {
      calls[fmt::format("{} over {}", NameOf(one.kind), NameOf(one.axes))] += one.calls;
    }
  }
  std::string text;
  for (const auto& [what, count] : calls) {
    text += text.empty() ? "" : ", ";
    text += count == 1 ? what : fmt::format("{} x {}", count, what);
  }
  return text;
}

std::string PlaceOf(const RankPlan& plan) {
  return fmt::format("rank {} (replica {}, shard {}, tower {})",
                     plan.grid.RankAlong(plan.grid.axes(), plan.place), plan.place.replica,
                     plan.place.shard, plan.place.tower);
}

void PrintOperations(const StepNumbers& step) {
  const auto count = [](int64_t n) { return n == 0 ? std::string("-") : FormatCount(n); };
  const auto giga = [](int64_t n) {
    return n == 0 ? std::string("-") : fmt::format("{:.3f}", 1e-9 * static_cast<double>(n));
  };
  fmt::print("{:<26}{:<15}{:>8}{:>14}{:>12}{:>16}  {}\n", "operation", "stream", "rows",
             "parameters", "GFLOP", "bytes received", "by");
  for (const OperationCost& cost : step.costs) {
    fmt::print("{:<26}{:<15}{:>8}{:>14}{:>12}{:>16}{}\n", cost.name, NameOf(cost.stream),
               count(cost.rows), count(cost.parameters), giga(cost.flops()), count(cost.bytes()),
               cost.bytes() > 0 ? "  " + Describe(cost) : "");
  }
  fmt::print("{:<63}{:>12}{:>16}\n\n", "total", giga(step.flops()), count(step.bytes()));
}

}  // namespace

void AddStepOptions(OptionTable& table, StepSettings* settings) {
  table.Add("batch-size,b", "N", "128", "images of a step over all ranks",
            store::Integer("batch-size", 1, 1 << 24, [=](int64_t n) { settings->batch_size = n; }));
  table.Add("accumulate", "M", "1", "micro-batches of a step, whose gradients add up",
            store::Integer("accumulate", 1, 1 << 20,
                           [=](int64_t n) { settings->accumulate = static_cast<int>(n); }));
  const std::vector<std::pair<std::string, DType>> types = {{"fp32", DType::kFloat32},
                                                            {"bf16", DType::kBFloat16}};
  table.Add("dtype", "TYPE", "fp32", "of activations: fp32 or bf16",
            store::Choice<DType>("dtype", types, &settings->dtype));
  table.Add("reduce-dtype", "TYPE", "fp32", "of gradients on the wire: fp32 or bf16",
            store::Choice<DType>("reduce-dtype", types, &settings->reduce_dtype));
  table.Add("shard-update", "on|off", "off",
            "each rank updates a part of the parameters that others hold too",
            store::Switch("shard-update", &settings->shards_update));
  AddRuleOption(table, &settings->rule);
  AddClipOption(table, &settings->clip_norm);
}

std::vector<OperationCost> StepCostsOf(const RankPlan& plan, const StepSettings& settings) {
  return NumbersOf(plan, settings).costs;
}

void PrintProgram(const RankPlan& plan, const StepSettings& settings) {
  const StepNumbers step = NumbersOf(plan, settings);
  fmt::print("{}: a training step of {} images on {}, {}, {} rows at a time\n\n", plan.network.name,
             FormatCount(settings.batch_size), FormatCount(plan.grid.ranks(), "rank"),
             PlaceOf(plan), FormatCount(step.rows));
  PrintOperations(step);
  fmt::print("memory of the rank for its steps, on a CPU:\n");
  for (const MemoryUse& use : step.memory) {
    fmt::print("  {:<34}{:>12}\n", use.name, FormatBytes(static_cast<double>(use.bytes)));
  }
  fmt::print("  {:<34}{:>12}\n", "all", FormatBytes(static_cast<double>(step.memory_bytes())));
}

void PrintProgramAsJson(const RankPlan& plan, const StepSettings& settings) {
  const StepNumbers step = NumbersOf(plan, settings);
  Json json = {{"model", plan.network.name},
               {"batch_size", settings.batch_size},
               {"micro_batches", step.micro_batches},
               {"dtype", NameOf(settings.dtype)},
               {"reduce_dtype", NameOf(settings.reduce_dtype)},
               {"optimizer", NameOf(settings.rule)},
               {"shards_update", plan.options.shards_update},
               {"replicas", plan.grid.replicas},
               {"fc_shards", plan.grid.shards},
               {"towers", plan.grid.towers},
               {"replica", plan.place.replica},
               {"shard", plan.place.shard},
               {"tower", plan.place.tower}};
  for (const OperationCost& cost : step.costs) {
    json["program"].push_back({{"operation", cost.name},
                               {"stream", NameOf(cost.stream)},
                               {"rows", cost.rows},
                               {"parameters", cost.parameters},
                               {"forward_flops", cost.forward_flops},
                               {"weight_gradient_flops", cost.weight_gradient_flops},
                               {"data_gradient_flops", cost.data_gradient_flops},
                               {"bytes", cost.bytes()},
                               {"collectives", ToJson(cost.collectives)},
                               {"statistics", ToJson(cost.statistics)}});
  }
  json["flops"] = step.flops();
  json["bytes"] = step.bytes();
  json["traffic"] = ToJson(TrafficOf(step.costs));
  for (const MemoryUse& use : step.memory) json["memory"][use.name] = use.bytes;
  json["memory_bytes"] = step.memory_bytes();
  std::cout << JsonLine(json) << "\n";
}

}  // namespace convoy
