// trainer/step/parameter_store.h - a rank's flat arenas: weights, gradients, optimiser states,
// buffers.
#pragma once

#include <string>
#include <vector>

#include "core/tensor/arena.h"
#include "layers/backend.h"
#include "layers/network.h"
#include "trainer/plan/plan.h"

namespace convoy {

enum class StoreUse { kTraining, kInference };  // kInference: only weights and buffers

class ParameterStore {
 public:
  // Allocates from `backend`, which outlives the store; gradients from `gradient_memory`, which
  // collectives reach fastest (CollectiveMemoryOf). `dtype`: of the network's activations.
  // `state_names`: of the arrays that the optimiser keeps, one per parameter each (StateNamesOf).
  ParameterStore(Backend& backend, const RankPlan& plan, DType dtype, StoreUse use,
                 const Allocator& gradient_memory = {},
                 const std::vector<std::string>& state_names = {});

  // Weights as their Init says, states zero, buffers at their initial values.
  void Initialize(uint64_t seed, Stream& stream);
  // To call after weights were written from outside: the bf16 copy follows.
  void RefreshCompute(Stream& stream);

  const ArenaLayout& parameter_layout() const { return parameter_layout_; }
  const ArenaLayout& buffer_layout() const { return buffer_layout_; }
  // Flat, master type.
  const Tensor& parameters() const { return arenas_.parameters; }
  const Tensor& compute() const { return arenas_.compute; }
  const Tensor& gradients() const { return arenas_.gradients; }
  // Of what this rank updates (OwnedRangesOf): all parameters, in their layout, unless the update
  // is sharded.
  const std::vector<Tensor>& states() const { return states_; }
  const std::vector<std::string>& state_names() const { return state_names_; }
  const Tensor& buffers() const { return arenas_.buffers; }
  const NetworkArenas& arenas() const { return arenas_; }

 private:
  Tensor Keep(Buffer memory, int64_t count, DType dtype);
  Tensor AllocateArena(int64_t count, DType dtype);

  Backend& backend_;
  RankPlan plan_;
  ArenaLayout parameter_layout_, buffer_layout_;
  std::vector<Buffer> memory_;
  NetworkArenas arenas_;
  std::vector<Tensor> states_;
  std::vector<std::string> state_names_;  // one per state
};

}  // namespace convoy
