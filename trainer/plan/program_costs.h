// trainer/plan/program_costs.h - what every operation of a step costs a rank: the rows it works on,
// its arithmetic, and the bytes that cross for it.
//
// All of it follows from the plan: nothing runs, and nothing is sent. `convoy summary --program`
// prints the list. A test holds its bytes against what the communicators count.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "comm/collective.h"
#include "comm/grid_shape.h"
#include "core/tensor/dtype.h"
#include "layers/update_rules.h"
#include "trainer/plan/plan.h"
#include "trainer/plan/program.h"

namespace convoy {

// In what order operations run: those of one stream one after another, and each after what it
// needs. A reduction runs beside the backward pass that goes on, and an update beside both; the
// gather of what was updated runs beside other updates.
enum class CostStream { kCompute, kCommunication, kUpdate };

// Collectives of one kind and name over one group.
struct CollectiveCost {
  std::string what;  // as the communicators name and count it
  CollectiveKind kind = CollectiveKind::kAllReduce;
  Axes axes;          // along each of them there is more than one rank
  int64_t calls = 0;  // one after another
  int64_t bytes = 0;  // that this rank receives in all calls together (comm/traffic.h)
  bool operator==(const CollectiveCost&) const = default;
};

struct OperationCost {
  StepOperation operation;
  std::string name;  // "forward conv1..pool5", "pool5 to fc6 backward", "reduce fc7..fc8"
  CostStream stream = CostStream::kCompute;
  int64_t rows = 0;  // 0: it works on parameters
  // Of this rank's own layers, two per multiply-add.
  int64_t forward_flops = 0, weight_gradient_flops = 0, data_gradient_flops = 0;
  // Elements that are reduced, or that this rank updates or gathers, without the arena's gaps.
  int64_t parameters = 0;
  // Those that `operation` is about.
  std::vector<CollectiveCost> collectives;
  // Batch norm's sums within a segment: one call per layer. The segment waits for each.
  std::vector<CollectiveCost> statistics;

  int64_t flops() const { return forward_flops + weight_gradient_flops + data_gradient_flops; }
  // That cross for it, the sums of batch norm included.
  int64_t bytes() const;
};

struct CostOptions {
  int64_t rows = 1;                      // of a micro-batch, of every shard
  DType dtype = DType::kFloat32;         // of activations
  DType master = DType::kFloat32;        // of gradients
  DType reduce_dtype = DType::kFloat32;  // as which gradients travel, if they are fp32
  UpdateRule rule;
  // Whether Load takes its rows from a loader: towers exchange the crops that each has decoded.
  bool loads_images = true;
  // For each layer of the uncut network, whether its parameters learn (StepRates::learns). Empty:
  // all do.
  std::vector<bool> learns;
};

// Returns one entry for every operation of `program`, in its order. `buckets` as PlanBuckets
// returns them; an evaluation needs none.
std::vector<OperationCost> CostsOf(const RankPlan& plan, const std::vector<BucketRange>& buckets,
                                   const StepProgram& program, const CostOptions& options);

// Returns all collectives of the list, those with the same name, kind and axes added up, in the
// order in which they first come.
std::vector<CollectiveCost> TrafficOf(const std::vector<OperationCost>& costs);

}  // namespace convoy
