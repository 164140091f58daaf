// trainer/step/rank_model.h - one rank's part of the network, compiled: segments, and the exchanges
// with the other towers between them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "layers/backend.h"
#include "layers/network.h"
#include "trainer/plan/plan.h"
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
    Preprocessing preprocessing;
    // Of what the towers exchange: World::AllocateShared, which collectives reach fastest.
    Allocator exchange_memory = AllocateHost;
  };

  // `backend`, `store` and `towers` outlive the model. Several models may share a store.
  RankModel(Backend& backend, const RankPlan& plan, const ParameterStore& store,
            Communicator& towers, const Options& options);

  // May start to bring `batch`, which the next Load will be given, to the device while other work
  // runs. It stays where it is until that Load has returned.
  void Prefetch(const Batch& batch);
  // The replica's batch; every tower loads the same one.
  void Load(Stream& stream, const Batch& batch);
  // The model fills in context.rows. Collective over the towers.
  void Forward(StepContext context);
  // Collective over the towers. Ranges that the observer sees are of this rank's gradient arena.
  void Backward(StepContext context, BackwardObserver& observer);

  // Network::loss_sums; empty on a tower without the loss.
  Tensor loss_sums() const;
  // [rows, classes], fp32 or fp64; empty on a tower without the loss.
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

  // Seconds that the host has waited for the other towers so far.
  double exchange_wait_s() const { return exchange_wait_s_; }

  // The compiled segments, in forward order, for benches.
  std::vector<Network*> networks() const;

 private:
  // A segment, or the exchange before the next one.
  struct CompiledStage {
    std::unique_ptr<Network> network;
    const SegmentPlan* segment = nullptr;
    const Exchange* exchange = nullptr;
    bool runs_backward = true;
  };

  void GatherForward(const StepContext& context, const Exchange& exchange, const Tensor& part,
                     const Tensor& whole);
  void ScatterBackward(const StepContext& context, const Exchange& exchange,
                       const Tensor& whole_gradient, const Tensor& part_gradient);
  Tensor Blocks(const Exchange& exchange) const;
  void WaitFor(Request request, Stream& stream);

  Backend& backend_;
  RankPlan plan_;
  Communicator& towers_;
  Options options_;
  std::unique_ptr<InputStage> input_;
  std::vector<CompiledStage> stages_;
  Buffer exchange_memory_;  // [towers, rows, ...] of the largest exchange
  double exchange_wait_s_ = 0;
};

}  // namespace convoy
