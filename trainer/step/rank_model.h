// trainer/step/rank_model.h - one rank's part of the network, compiled: segments, and the exchanges
// with the other ranks of the replica between them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/grid.h"
#include "layers/backend.h"
#include "layers/network.h"
#include "trainer/plan/plan.h"
#include "trainer/plan/program.h"
#include "trainer/step/parameter_store.h"

namespace convoy {

// What the pixels are made into; see core/tensor/batch.h.
struct Preprocessing {
  std::vector<float> mean;                // H*W*C, or C, or none
  std::vector<float> standard_deviation;  // C, or none
};

class RankModel {
 public:
  struct Options {
    DType dtype = DType::kFloat32;
    int64_t rows = 1;  // of every batch that is loaded
    bool training = true;
    bool accumulates = false;  // a step may have several batches
    Preprocessing preprocessing;
    // Of what ranks exchange: World::AllocateShared, which collectives reach fastest.
    Allocator exchange_memory = AllocateHost;
  };

  // `backend`, `store` and `grid` outlive the model. Several models may share a store.
  RankModel(Backend& backend, const RankPlan& plan, const ParameterStore& store, ProcessGrid& grid,
            const Options& options);

  // May start to bring `batch`, which the next Load will be given, to the device while other work
  // runs. It stays where it is until that Load has returned.
  void Prefetch(const Batch& batch);
  // The shard's batch; every tower loads the same one.
  void Load(Stream& stream, const Batch& batch);

  // Carry out an operation of a step. The model fills in context.rows and reduce_statistics. Those
  // that gather or move are collective over the ranks that take part, and so is batch norm. Ranges
  // that the observer sees are of this rank's gradient arena.
  void Run(const steps::GatherRows& operation, const StepContext& context);
  void Run(const steps::Forward& operation, const StepContext& context);
  void Run(const steps::MoveActivations& operation, const StepContext& context);
  void Run(const steps::Backward& operation, const StepContext& context,
           BackwardObserver& observer);
  // Runs EvaluationProgram. Collective over the ranks of the replica.
  void Evaluate(Stream& stream, const Batch& batch);

  // Network::loss_sums of the replica's rows; empty on all of its ranks but one.
  Tensor loss_sums() const;
  // [rows, classes] of the rows that this rank has loaded, fp32 or fp64; empty on all towers but
  // one.
  Tensor probabilities() const;
  // Returns the probabilities after the work queued on `stream`, on the host. Empty as above.
  std::vector<double> ReadProbabilities(Stream& stream) const;

  // Says for each layer of the uncut network whether it has parameters that learn. The others
  // compute no gradient; what lies below the last one that learns runs no backward at all. Must be
  // the same on every tower.
  void SetLearning(const std::vector<bool>& learns);

  // The output of an uncut layer on this rank (its slice); empty if it is fused away or not
  // here.
  Tensor Activation(const std::string& layer) const;

  // Seconds that the host has waited so far: for the other ranks' activations and rows, and for
  // batch norm's sums.
  double exchange_wait_s() const { return exchange_wait_s_; }
  double statistics_wait_s() const { return statistics_wait_s_; }

  // The compiled segments, in forward order, for benches.
  std::vector<Network*> networks() const;

 private:
  // A segment, or the exchange before the next one.
  struct CompiledStage {
    std::unique_ptr<Network> network;
    const SegmentPlan* segment = nullptr;
    const Exchange* exchange = nullptr;
    Communicator* group = nullptr;  // of the exchange, or of the segment's statistics
    bool runs_backward = true;
  };

  CompiledStage& StageAt(int stage) { return stages_.at(static_cast<size_t>(stage)); }
  StepContext ContextOf(const CompiledStage& stage, const StepContext& context);
  void GatherForward(const StepContext& context, const CompiledStage& stage, const Tensor& part,
                     const Tensor& whole);
  void ScatterBackward(const StepContext& context, const CompiledStage& stage,
                       const Tensor& whole_gradient, const Tensor& part_gradient);
  int64_t RowsOfPart(const Exchange& exchange) const;
  Tensor BlocksOf(const Exchange& exchange) const;
  void ForEachRowPart(
      const Exchange& exchange, const Tensor& whole,
      const std::function<void(const Tensor& blocks, const Tensor& rows)>& call) const;
  void AllGather(Stream& stream, Communicator& group, const Tensor& own, const Tensor& blocks,
                 const char* what);
  void WaitFor(Request request, Stream& stream);

  Backend& backend_;
  RankPlan plan_;
  ProcessGrid& grid_;
  Options options_;
  const StepProgram evaluation_;
  std::unique_ptr<InputStage> input_;
  std::vector<CompiledStage> stages_;
  Buffer exchange_memory_;               // blocks of the largest exchange, and one block more
  Buffer zeros_;                         // as much, if a rank has nothing to add to a gradient
  Buffer labels_, weights_, positions_;  // of all shards' rows
  RowInfo gathered_rows_;
  double exchange_wait_s_ = 0, statistics_wait_s_ = 0;
};

}  // namespace convoy
