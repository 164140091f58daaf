#include "layers/cpu/onednn.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include <dnnl.hpp>

#include "core/error.h"
#include "core/median.h"

namespace convoy::cpu {

struct OneDnn::State {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  int64_t scratchpad_bytes = 0;
  Buffer scratchpad;
  std::vector<dnnl::memory> scratchpad_users;
};

struct BoundPrimitive::State {
  OneDnn::State* owner;
  dnnl::primitive primitive;
  std::vector<dnnl::memory> memories;
  std::vector<dnnl_exec_arg_t> arguments;
  int64_t bytes = 0;
  std::string implementation;
};

BoundPrimitive::BoundPrimitive() = default;
BoundPrimitive::BoundPrimitive(BoundPrimitive&&) noexcept = default;
BoundPrimitive& BoundPrimitive::operator=(BoundPrimitive&&) noexcept = default;
BoundPrimitive::~BoundPrimitive() = default;

// The C interface, because the C++ one builds a container of arguments at every call.
void BoundPrimitive::Execute() const {
  const dnnl_status_t status =
      dnnl_primitive_execute(state_->primitive.get(), state_->owner->stream.get(),
                             static_cast<int>(state_->arguments.size()), state_->arguments.data());
  if (status != dnnl_success) {
    throw Error(ExitCode::kDevice, fmt::format("oneDNN's {} failed with status {}",
                                               state_->implementation, static_cast<int>(status)));
  }
}

double BoundPrimitive::MedianSeconds(int repetitions) const {
  using Clock = std::chrono::steady_clock;
  std::vector<double> seconds(static_cast<size_t>(repetitions));
  Execute();
  for (double& time : seconds) {
    const auto start = Clock::now();
    Execute();
    time = std::chrono::duration<double>(Clock::now() - start).count();
  }
  return Median(std::move(seconds));
}

int64_t BoundPrimitive::bytes() const { return state_->bytes; }
std::string BoundPrimitive::implementation() const { return state_->implementation; }

OneDnn::OneDnn() : state_(std::make_unique<State>()) {}
OneDnn::~OneDnn() = default;

const dnnl::engine& OneDnn::engine() const { return state_->engine; }

BoundPrimitive OneDnn::Bind(const dnnl::primitive_desc_base& description,
                            const std::vector<BoundPrimitive::Argument>& arguments) {
  BoundPrimitive bound;
  bound.state_ = std::make_unique<BoundPrimitive::State>();
  BoundPrimitive::State& state = *bound.state_;
  state.owner = state_.get();
  state.primitive = dnnl::primitive(description.get());
  state.implementation = description.impl_info_str();
  const auto add = [&](int index, const dnnl::memory::desc& desc, void* data) {
    state.memories.emplace_back(desc, state_->engine, data);
    state.arguments.push_back({index, state.memories.back().get()});
  };
  for (const BoundPrimitive::Argument& argument : arguments) {
    const dnnl::memory::desc desc = description.query_md(dnnl::query::exec_arg_md, argument.index);
    add(argument.index, desc, argument.data);
    state.bytes += static_cast<int64_t>(desc.get_size());
  }
  const dnnl::memory::desc scratchpad = description.scratchpad_desc();
  if (scratchpad.get_size() > 0) {
    add(DNNL_ARG_SCRATCHPAD, scratchpad, DNNL_MEMORY_NONE);
    state_->scratchpad_users.push_back(state.memories.back());
    state_->scratchpad_bytes =
        std::max(state_->scratchpad_bytes, static_cast<int64_t>(scratchpad.get_size()));
  }
  return bound;
}

void OneDnn::AllocateScratchpad() {
  state_->scratchpad = AllocateHost(state_->scratchpad_bytes);
  for (dnnl::memory& memory : state_->scratchpad_users) {
    memory.set_data_handle(state_->scratchpad.data());
  }
}

dnnl::primitive_attr AttributesOf(AfterPrimitive after) {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  dnnl::post_ops operations;
  if (after == AfterPrimitive::kRelu) {
    operations.append_eltwise(dnnl::algorithm::eltwise_relu, 0, 0);
  } else if (after == AfterPrimitive::kSum) {
    operations.append_sum(1);
  }
  attributes.set_post_ops(operations);
  return attributes;
}

void ExplainingFailure(const std::string& layer, const std::function<void()>& make) {
  try {
    make();
  } catch (const dnnl::error& error) {
    throw Error(ExitCode::kDevice,
                fmt::format("layer {}: oneDNN {} cannot run it: {} (status {})", layer,
                            OneDnnVersion(), error.what(), static_cast<int>(error.status)),
                "try --dtype fp32");
  }
}

std::string OneDnnVersion() {
  const dnnl_version_t* version = dnnl_version();
  return fmt::format("{}.{}", version->major, version->minor);
}

// Without AVX-512 oneDNN 3.2 has no bf16 at all.
bool OneDnnHasBFloat16() {
  const auto isa = static_cast<unsigned>(dnnl_get_effective_cpu_isa());
  constexpr auto kNeeded = static_cast<unsigned>(dnnl_cpu_isa_avx512_core);
  return (isa & kNeeded) == kNeeded;
}

}  // namespace convoy::cpu
