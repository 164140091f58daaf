#include <fmt/format.h>

#include <algorithm>
#include <iostream>
#include <map>

#include <nlohmann/json.hpp>

#include "core/host/json_line.h"
#include "core/text.h"
#include "launch/command.h"
#include "launch/commands/program_table.h"
#include "launch/options/run_options.h"
#include "trainer/plan/plan.h"

namespace convoy {
namespace {

using Json = nlohmann::ordered_json;

struct LayerRow {
  std::string name, kind;
  Shape output;
  LayerCounts counts;
  std::string owner;
};

Json ToJson(const Shape& shape) {
  Json sizes = Json::array();
  for (int i = 0; i < shape.rank(); ++i) sizes.push_back(shape[i]);
  return sizes;
}

// "all", or the one tower that has the layer.
std::string OwnerOf(const std::string& layer, const std::vector<RankPlan>& plans) {
  std::vector<std::string> owners;
  for (const RankPlan& plan : plans) {
    for (const Stage& stage : plan.stages) {
      const auto* segment = std::get_if<SegmentPlan>(&stage);
      if (segment == nullptr) continue;
      for (const auto& item : segment->spec.items) {
        if (item.layer.name == layer) owners.push_back(fmt::format("tower {}", plan.place.tower));
      }
    }
  }
  return owners.size() == plans.size() ? "all" : fmt::format("{}", fmt::join(owners, ", "));
}

std::vector<LayerRow> RowsOf(const NetworkSpec& network, const std::vector<RankPlan>& plans) {
  std::vector<LayerRow> rows;
  for (const LayerSite& site : SitesOf(network)) {
    rows.push_back({site.layer.name, KindOf(site.layer.layer), site.output, CountsOf(site),
                    OwnerOf(site.layer.name, plans)});
  }
  return rows;
}

// A single replica has nobody to share its update with.
RankPlan PlanOf(const NetworkSpec& network, const GridShape& grid, int rank,
                const StepSettings& step) {
  return MakePlan(network, grid, rank,
                  {.shards_update = step.shards_update && grid.row_parts() > 1});
}

int64_t BytesOfAStep(const RankPlan& plan, const StepSettings& step) {
  int64_t bytes = 0;
  for (const OperationCost& cost : StepCostsOf(plan, step)) bytes += cost.bytes();
  return bytes;
}

// Prints the ranks of the first replica.
void PrintRanks(const std::vector<RankPlan>& plans, const StepSettings& step) {
  fmt::print(
      "\nbytes that a rank receives in a training step of {} images (--program: for what):\n",
      FormatCount(step.batch_size));
  for (size_t rank = 0; rank < plans.size(); ++rank) {
    const RankPlan& plan = plans[rank];
    fmt::print("  rank {:<5}shard {:<5}tower {:<3}{:>12} parameters{:>15} bytes\n", rank,
               plan.place.shard, plan.place.tower, FormatCount(plan.ParameterCount()),
               FormatCount(BytesOfAStep(plan, step)));
  }
}

void PrintTowersAndReplicas(const GridShape& grid, const std::vector<RankPlan>& plans,
                            const std::vector<ExchangeTraffic>& traffic) {
  if (grid.towers > 1) {
    for (const RankPlan& plan : plans) {
      fmt::print("tower {}: {} parameters\n", plan.place.tower, FormatCount(plan.ParameterCount()));
    }
    fmt::print("\nbytes exchanged per image, fp32, forward (backward the same the other way):\n");
    int64_t sum = 0;
    for (const ExchangeTraffic& row : traffic) {
      fmt::print("  tower {} to {}  {:<20}{:>10}\n", row.from, row.to, row.name,
                 FormatCount(4 * row.elements));
      sum += 4 * row.elements;
    }
    fmt::print("  {:<34}{:>10}\n", "all", FormatCount(sum));
  }
  if (grid.replicas > 1) {
    fmt::print("\nreduced over {} replicas per step, fp32, by bucket:\n", grid.replicas);
    for (const BucketRange& bucket : PlanBuckets(plans[0])) {
      fmt::print("  {:<34}{:>10}\n", bucket.name,
                 FormatBytes(4.0 * static_cast<double>(bucket.count)));
    }
  }
}

void PrintTable(const NetworkSpec& network, const GridShape& grid,
                const std::vector<LayerRow>& rows, const std::vector<RankPlan>& plans,
                const std::vector<ExchangeTraffic>& traffic, const StepSettings& step) {
  fmt::print("{}: input {}, {} classes\n\n", network.name, network.input.ToString(),
             network.classes);
  fmt::print("{:<10}{:<14}{:<16}{:>14}{:>18}{:>12}  {}\n", "layer", "kind", "output", "parameters",
             "multiply-adds", "neurons", "on");
  for (const LayerRow& row : rows) {
    const auto count = [](int64_t n) { return n == 0 ? std::string("-") : FormatCount(n); };
    fmt::print("{:<10}{:<14}{:<16}{:>14}{:>18}{:>12}  {}\n", row.name, row.kind,
               row.output.ToString(), count(row.counts.parameters), count(row.counts.multiply_adds),
               count(row.counts.neurons), row.owner);
  }
  const LayerCounts total = CountsOf(network);
  fmt::print("{:<40}{:>14}{:>18}{:>12}\n\n", "total", FormatCount(total.parameters),
             FormatCount(total.multiply_adds), FormatCount(total.neurons));
  fmt::print("training: {} FLOP per image; {} of parameters in fp32\n",
             FormatCount(TrainingFlops(network)),
             FormatBytes(4.0 * static_cast<double>(total.parameters)));
  if (grid.shards > 1) {
    PrintRanks(plans, step);
  } else {
    PrintTowersAndReplicas(grid, plans, traffic);
  }
}

Json ToJson(const NetworkSpec& network, const GridShape& grid, const std::vector<LayerRow>& rows,
            const std::vector<RankPlan>& plans, const std::vector<ExchangeTraffic>& traffic,
            const StepSettings& step) {
  const LayerCounts total = CountsOf(network);
  Json json = {{"model", network.name},
               {"input", ToJson(network.input)},
               {"classes", network.classes},
               {"parameters", total.parameters},
               {"multiply_adds", total.multiply_adds},
               {"neurons", total.neurons},
               {"training_flops_per_image", TrainingFlops(network)},
               {"replicas", grid.replicas},
               {"fc_shards", grid.shards},
               {"towers", grid.towers},
               {"batch_size", step.batch_size}};
  for (const LayerRow& row : rows) {
    json["layers"].push_back({{"name", row.name},
                              {"kind", row.kind},
                              {"output", ToJson(row.output)},
                              {"parameters", row.counts.parameters},
                              {"multiply_adds", row.counts.multiply_adds},
                              {"neurons", row.counts.neurons},
                              {"on", row.owner}});
  }
  for (int rank = 0; rank < grid.ranks(); ++rank) {
    const GridPlace place = grid.PlaceOf(rank);
    const RankPlan& plan = plans[static_cast<size_t>(rank % grid.ranks_per_replica())];
    json["ranks"].push_back({{"rank", rank},
                             {"replica", place.replica},
                             {"shard", place.shard},
                             {"tower", place.tower},
                             {"parameters", plan.ParameterCount()}});
    // Ranks of other replicas may have a share of a sum that is a few bytes shorter.
    if (place.replica == 0) json["ranks"].back()["bytes_per_step"] = BytesOfAStep(plan, step);
  }
  // Bytes of fp32 per image in the forward pass; backward carries the same the other way.
  json["exchange"] = Json::array();
  std::map<std::pair<int, int>, int64_t> sums;
  int64_t all = 0;
  for (const ExchangeTraffic& row : traffic) {
    const int64_t bytes = 4 * row.elements;
    json["exchange"].push_back(
        {{"name", row.name}, {"from", row.from}, {"to", row.to}, {"bytes_per_image", bytes}});
    sums[{row.from, row.to}] += bytes;
    all += bytes;
  }
  json["exchange_bytes_per_image"] = {{"all", all}};
  for (const auto& [pair, bytes] : sums) {
    json["exchange_bytes_per_image"][fmt::format("{}_to_{}", pair.first, pair.second)] = bytes;
  }
  for (const BucketRange& bucket : PlanBuckets(plans[0])) {
    json["buckets"].push_back({{"name", bucket.name}, {"bytes", 4 * bucket.count}});
  }
  return json;
}

}  // namespace

ExitCode SummaryCommand(int argc, const char* const* argv) {
  std::string model;
  ModelOptions options;
  GridShape grid;
  StepSettings step;
  bool as_json = false, shows_program = false;
  int shown_rank = 0;
  OptionTable table("convoy summary",
                    "the layers of a model, and what each rank owns and exchanges");
  AddModelOptions(table, &model, &options);
  table.Group("Cut");
  table.Add(
      "towers", "N", "1", "ranks that cut one network between them: 1 or 2",
      store::Integer("towers", 1, 1024, [&](int64_t n) { grid.towers = static_cast<int>(n); }));
  table.Add("fc-shards", "N", "1", "ranks that cut the fully connected layers between them",
            store::Integer("fc-shards", 1, 1 << 20,
                           [&](int64_t n) { grid.shards = static_cast<int>(n); }));
  table.Add("replicas", "N", "1", "copies of the network",
            store::Integer("replicas", 1, 1 << 20,
                           [&](int64_t n) { grid.replicas = static_cast<int>(n); }));
  table.Group("Step");
  AddStepOptions(table, &step);
  table.Group("Output");
  table.AddFlag("program", "the operations of a training step of a rank, and what each costs",
                &shows_program);
  table.Add(
      "rank", "R", "0", "whose program it is",
      store::Integer("rank", 0, 1 << 30, [&](int64_t n) { shown_rank = static_cast<int>(n); }));
  table.AddFlag("json", "one JSON object", &as_json);
  table.Examples(
      "Examples\n"
      "  convoy summary --model alexnet2012 --towers 2\n"
      "  convoy summary --program --fc-shards 4 --replicas 2 --batch-size 512\n");
  if (!table.Parse(argc, argv)) return ExitCode::kDone;
  RequireOneRank("convoy summary");

  const NetworkSpec network = MakeModel(model, options);
  if (shows_program) {
    if (shown_rank >= grid.ranks()) {
      throw Error(ExitCode::kUsage,
                  fmt::format("--rank {}: there are ranks 0 to {}", shown_rank, grid.ranks() - 1));
    }
    const RankPlan plan = PlanOf(network, grid, shown_rank, step);
    as_json ? PrintProgramAsJson(plan, step) : PrintProgram(plan, step);
    return ExitCode::kDone;
  }
  std::vector<RankPlan> plans;  // of the ranks of one replica
  for (int rank = 0; rank < grid.ranks_per_replica(); ++rank) {
    plans.push_back(PlanOf(network, grid, rank, step));
  }
  const std::vector<LayerRow> rows = RowsOf(network, plans);
  // Only of towers: what shards send depends on the batch.
  const std::vector<ExchangeTraffic> traffic =
      grid.shards > 1 ? std::vector<ExchangeTraffic>{} : ForwardTraffic(network, grid);
  if (as_json) {
    std::cout << JsonLine(ToJson(network, grid, rows, plans, traffic, step)) << "\n";
  } else {
    PrintTable(network, grid, rows, plans, traffic, step);
  }
  return ExitCode::kDone;
}

}  // namespace convoy
