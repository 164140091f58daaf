#include <cstring>

#include "core/text.h"
#include "layers/cpu/input_stage.h"
#include "layers/cpu/network.h"
#include "layers/cpu/onednn.h"
#include "layers/cpu/update.h"
#include "layers/operations/host_backend.h"

namespace convoy {
namespace {

class CpuBackend final : public HostBackend {
 public:
  using HostBackend::HostBackend;

  std::string Describe() const override {
    return fmt::format("cpu: oneDNN {}, {}", cpu::OneDnnVersion(), FormatCount(threads_, "thread"));
  }
  DType master_dtype() const override { return DType::kFloat32; }
  void RequireDType(DType dtype) const override {
    if (dtype == DType::kFloat32) return;
    if (dtype == DType::kBFloat16) {
      if (cpu::OneDnnHasBFloat16()) return;
      throw Error(ExitCode::kUsage, "--dtype bf16: this processor has no AVX-512",
                  "use --dtype fp32");
    }
    throw Error(ExitCode::kUsage,
                fmt::format("--dtype {}: the CPU computes in fp32 or bf16", NameOf(dtype)));
  }

  std::unique_ptr<InputStage> CompileInput(const InputOptions& options) override {
    RequireDType(options.dtype);
    return cpu::MakeInputStage(options, threads_);
  }
  std::unique_ptr<Network> Compile(const SegmentSpec& segment, const CompileOptions& options,
                                   const NetworkArenas& arenas) override {
    RequireDType(options.dtype);
    return cpu::MakeNetwork(segment, options, arenas, threads_);
  }

  std::unique_ptr<Updater> CompileUpdate(const UpdateArenas& arenas,
                                         const UpdateOptions& options) override {
    return cpu::MakeUpdater(arenas, options, threads_);
  }
  void RefreshCompute(Stream&, const Tensor& parameters, const Tensor& compute) override {
    if (compute.data == parameters.data) return;
    cpu::RoundToBFloat16(parameters, compute, threads_);
  }
};

}  // namespace

std::unique_ptr<Backend> MakeCpuBackend(int threads) {
  return std::make_unique<CpuBackend>(threads);
}

}  // namespace convoy
