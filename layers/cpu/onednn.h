// layers/cpu/onednn.h - oneDNN's engine, and primitives with their memory bound once.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/device/memory.h"

// NOLINTBEGIN(readability-identifier-naming): the library's own names
namespace dnnl {
struct engine;
struct primitive_attr;
struct primitive_desc_base;
}  // namespace dnnl
// NOLINTEND(readability-identifier-naming)

namespace convoy::cpu {

// A primitive and everything that it reads and writes. Runs on the thread that calls Execute and as
// many OpenMP threads as it was made with; movable.
class BoundPrimitive {
 public:
  // `index`: DNNL_ARG_...; the memory must hold what the descriptor says and outlive this.
  struct Argument {
    int index;
    void* data;
  };

  BoundPrimitive();
  BoundPrimitive(BoundPrimitive&&) noexcept;
  BoundPrimitive& operator=(BoundPrimitive&&) noexcept;
  ~BoundPrimitive();

  explicit operator bool() const { return state_ != nullptr; }
  void Execute() const;
  // Of `repetitions` >= 1 runs after one that is not counted.
  double MedianSeconds(int repetitions) const;
  // Of all arguments together, as the descriptors have them.
  int64_t bytes() const;
  // Returns the name of oneDNN's implementation: "brgconv:avx512_core".
  std::string implementation() const;

 private:
  friend class OneDnn;
  struct State;
  std::unique_ptr<State> state_;
};

// One engine and stream, and the scratchpad that the primitives of a network share.
class OneDnn {
 public:
  // Primitives that are bound while this lives run on `threads` threads: the caller has set
  // OpenMP's number, here and when they are executed.
  OneDnn();
  ~OneDnn();
  OneDnn(const OneDnn&) = delete;
  OneDnn& operator=(const OneDnn&) = delete;

  const dnnl::engine& engine() const;
  // Throws (kDevice) when oneDNN refuses.
  BoundPrimitive Bind(const dnnl::primitive_desc_base& description,
                      const std::vector<BoundPrimitive::Argument>& arguments);
  // Allocates the scratchpad, as large as the hungriest primitive bound so far asks. Call once,
  // after the last Bind and before the first Execute.
  void AllocateScratchpad();

 private:
  friend class BoundPrimitive;
  struct State;
  std::unique_ptr<State> state_;
};

// What becomes of a result: nothing, a ReLU, or the sum with what lies where it is written.
enum class AfterPrimitive { kNothing, kRelu, kSum };
// What every primitive is made with: the caller's scratchpad, and what becomes of the result.
dnnl::primitive_attr AttributesOf(AfterPrimitive after = AfterPrimitive::kNothing);

// Calls `make` and turns what oneDNN throws into an Error (kDevice) that names the layer.
void ExplainingFailure(const std::string& layer, const std::function<void()>& make);

// Returns "3.2"
std::string OneDnnVersion();
// Returns whether this processor computes with bf16 at a useful speed.
bool OneDnnHasBFloat16();

}  // namespace convoy::cpu
