// layers/operations/operation.h - the inside of a backend: what a network runs, one after another.
//
// operation_plan.h matches the layers of a segment into operations and lays out their memory;
// operation_network.h runs them. An operation holds pointers into activations, gradients and arenas
// that the network owns; everything it needs in a step is made when the network is compiled.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "layers/network.h"
#include "layers/phase_timer.h"

namespace convoy {

// The learned tensors and buffers of one layer; empty if there is none.
struct LayerParameters {
  const ArenaEntry* weight_entry = nullptr;
  const ArenaEntry* bias_entry = nullptr;
  Tensor weight, bias;                    // master, fp32
  Tensor compute_weight, compute_bias;    // in the network's type
  Tensor weight_gradient, bias_gradient;  // fp32; empty when the network does not train
  Tensor running_mean, running_variance;  // fp32

  void ReportReady(BackwardObserver& observer) const;
  void ReportReleased(BackwardObserver& observer) const;
};

// What an operation is connected to. Activations are [N, H, W, C] or [N, F]; y may be x, and dx may
// be dy, if the plan runs the operation in place. dx and dy are empty when the network does not
// train; dx is empty too if nobody can ask for it.
struct Wiring {
  std::string name;  // as OperationTimer prints it: "conv1", "norm1+pool1"
  SegmentSpec::Item item;
  Tensor x, y, dx, dy;
  LayerParameters parameters;
  int threads = 1;  // of a host backend
  bool training = false;
  bool accumulates = false;  // BackwardRequest::adds may be set

  std::optional<Lrn> lrn;     // max pooling takes the maxima of this normalisation of x
  bool relu = false;          // the operation ends in a ReLU
  bool dy_is_masked = false;  // dy arrives as zero if that ReLU gave zero
  bool mask_dx = false;       // x comes from a ReLU: dx is zero if x is
};

struct BackwardRequest {
  bool learns = false;    // write the weights' gradients
  bool adds = false;      // add them to what is there instead
  bool wants_dx = false;  // write dx
  BackwardObserver& observer;
};

class Operation {
 public:
  virtual ~Operation() = default;
  virtual void Forward(const StepContext& context) = 0;
  virtual void Backward(const StepContext& context, const BackwardRequest& request) = 0;
  // The vendor's primitives of this operation, each timed by itself.
  virtual void AppendLimits(int repetitions, std::vector<OperationLimit>& limits) {
    (void)repetitions, (void)limits;
  }
  // Network::loss_sums; only the loss answers.
  virtual Tensor loss_sums() { return {}; }
};

}  // namespace convoy
