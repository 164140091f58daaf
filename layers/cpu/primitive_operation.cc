#include "layers/cpu/primitive_operation.h"

#include <utility>

namespace convoy::cpu {
namespace {

void Execute(const PrimitiveSequence& sequence) {
  for (const BoundPrimitive& primitive : sequence.before) primitive.Execute();
  sequence.main.Execute();
  for (const BoundPrimitive& primitive : sequence.after) primitive.Execute();
}

class PrimitiveOperation final : public Operation {
 public:
  PrimitiveOperation(const Wiring& wiring, PrimitiveSet primitives)
      : wiring_(wiring), primitives_(std::move(primitives)) {}

  void Forward(const StepContext&) override { Execute(primitives_.forward); }

  // The weights' gradient first, so that its reduction over the ranks starts as early as it can.
  void Backward(const StepContext& context, const BackwardRequest& request) override {
    if (wiring_.relu && !wiring_.dy_is_masked) {
      const PhaseTimer timer(context, wiring_.name, "backward relu");
      MaskGradient(wiring_.y, wiring_.dy, wiring_.threads);
    }
    if (request.learns) {
      {
        const PhaseTimer timer(context, wiring_.name, "backward weights");
        WeightGradient& gradient =
            request.adds ? primitives_.adding_weights : primitives_.backward_weights;
        if (gradient.bias) gradient.bias->Compute(request.adds);
        Execute(gradient.product);
      }
      wiring_.parameters.ReportReady(request.observer);
    }
    if (request.wants_dx) {
      const PhaseTimer timer(context, wiring_.name, "backward data");
      Execute(primitives_.backward_data);
    }
    wiring_.parameters.ReportReleased(request.observer);
  }

  void AppendLimits(int repetitions, std::vector<OperationLimit>& limits) override {
    const auto append = [&](const BoundPrimitive& primitive, const char* phase) {
      if (!primitive) return;
      limits.push_back({.operation = wiring_.name + " " + phase,
                        .seconds = primitive.MedianSeconds(repetitions),
                        .flops = primitives_.flops,
                        .bytes = static_cast<double>(primitive.bytes())});
    };
    append(primitives_.forward.main, "forward");
    append(primitives_.backward_weights.product.main, "backward weights");
    append(primitives_.backward_data.main, "backward data");
  }

 private:
  Wiring wiring_;
  PrimitiveSet primitives_;
};

}  // namespace

std::unique_ptr<Operation> MakePrimitiveOperation(const Wiring& wiring, PrimitiveSet primitives) {
  return std::make_unique<PrimitiveOperation>(wiring, std::move(primitives));
}

}  // namespace convoy::cpu
