#include "trainer/step/parameter_store.h"

#include <algorithm>
#include <utility>

namespace convoy {

ParameterStore::ParameterStore(Backend& backend, const RankPlan& plan, DType dtype, StoreUse use,
                               const Allocator& gradient_memory,
                               const std::vector<std::string>& state_names)
    : backend_(backend),
      plan_(plan),
      parameter_layout_(plan.ParameterLayout()),
      buffer_layout_(plan.BufferLayout()) {
  const DType master = backend.master_dtype();
  const int64_t count = parameter_layout_.count();
  arenas_.parameter_layout = &parameter_layout_;
  arenas_.buffer_layout = &buffer_layout_;
  arenas_.parameters = AllocateArena(count, master);
  arenas_.compute = dtype == master ? arenas_.parameters : AllocateArena(count, dtype);
  arenas_.buffers = AllocateArena(buffer_layout_.count(), master);
  if (use == StoreUse::kInference) return;
  arenas_.gradients = gradient_memory ? Keep(gradient_memory(count * SizeOf(master)), count, master)
                                      : AllocateArena(count, master);
  const int64_t state_count = StateCountOf(plan);
  for (const std::string& name : state_names) {
    states_.push_back(AllocateArena(state_count, master));
    state_names_.push_back(name);
  }
}

Tensor ParameterStore::Keep(Buffer memory, int64_t count, DType dtype) {
  memory_.push_back(std::move(memory));
  return ViewOf(memory_.back(), dtype, Shape{count});
}

Tensor ParameterStore::AllocateArena(int64_t count, DType dtype) {
  return Keep(backend_.Allocate(count * SizeOf(dtype)), count, dtype);
}

void ParameterStore::Initialize(uint64_t seed, Stream& stream) {
  const DType master = backend_.master_dtype();
  for (const ParameterSlice& slice : plan_.parameters) {
    const Tensor target = parameter_layout_.View(arenas_.parameters, slice.uncut.name);
    const Buffer host = backend_.AllocateStaging(target.bytes());
    convoy::Initialize(slice.uncut, slice.layer_index, slice.begin, seed,
                       ViewOf(host, master, target.shape));
    backend_.CopyToDevice(stream, host.data(), target);
  }
  for (const BufferSlice& slice : plan_.buffers) {
    const Tensor target = buffer_layout_.View(arenas_.buffers, slice.uncut.name);
    const Buffer host = backend_.AllocateStaging(target.bytes());
    const Tensor values = ViewOf(host, master, target.shape);
    if (master == DType::kFloat64) {
      std::fill_n(values.As<double>(), values.count(), slice.uncut.initial_value);
    } else {
      std::fill_n(values.As<float>(), values.count(),
                  static_cast<float>(slice.uncut.initial_value));
    }
    backend_.CopyToDevice(stream, host.data(), target);
  }
  RefreshCompute(stream);
}

void ParameterStore::RefreshCompute(Stream& stream) {
  if (arenas_.compute.data == arenas_.parameters.data) return;
  backend_.RefreshCompute(stream, arenas_.parameters, arenas_.compute);
}

}  // namespace convoy
