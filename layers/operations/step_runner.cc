#include <memory>

#include "layers/backend.h"
#include "layers/network.h"

namespace convoy {
namespace {

// Queues the work itself every time.
class DirectRunner final : public StepRunner {
 public:
  void Run(Stream&, const StepContext&, const std::function<void()>& queue_work) override {
    queue_work();
  }
  void Forget() override {}
};

}  // namespace

std::unique_ptr<StepRunner> Backend::MakeStepRunner(bool) {
  return std::make_unique<DirectRunner>();
}

}  // namespace convoy
