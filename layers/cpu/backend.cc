#include <cstring>

#include "layers/cpu/input_stage.h"
#include "layers/cpu/network.h"
#include "layers/cpu/onednn.h"
#include "layers/cpu/update.h"
#include "layers/host_channels.h"

namespace convoy {
namespace {

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(int threads) : threads_(threads) {
    CONVOY_CHECK(threads >= 1, "{} threads", threads);
  }

  std::string Describe() const override {
    return fmt::format("cpu: oneDNN {}, {} thread{}", cpu::OneDnnVersion(), threads_,
                       threads_ == 1 ? "" : "s");
  }
  Device device() const override { return {}; }
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

  std::unique_ptr<Stream> MakeStream() override { return std::make_unique<HostStream>(); }
  Buffer Allocate(int64_t bytes) override { return AllocateHost(bytes); }
  Buffer AllocateStaging(int64_t bytes) override { return AllocateHost(bytes); }
  void CopyToHost(Stream&, const Tensor& from, void* to) override {
    std::memcpy(to, from.data, static_cast<size_t>(from.bytes()));
  }
  void CopyToDevice(Stream&, const void* from, const Tensor& to) override {
    std::memcpy(to.data, from, static_cast<size_t>(to.bytes()));
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

  void ConcatenateChannels(Stream&, const Tensor& blocks, const Tensor& whole) override {
    ConcatenateHostChannels(blocks, whole, threads_);
  }
  void SplitChannels(Stream&, const Tensor& whole, const Tensor& blocks) override {
    SplitHostChannels(whole, blocks, threads_);
  }

  void Update(Stream&, const UpdateRequest& request) override {
    cpu::UpdateParameters(request, threads_);
  }
  void RefreshCompute(Stream&, const Tensor& parameters, const Tensor& compute) override {
    if (compute.data == parameters.data) return;
    cpu::RoundToBFloat16(parameters, compute, threads_);
  }

 private:
  int threads_;
};

}  // namespace

std::unique_ptr<Backend> MakeCpuBackend(int threads) {
  return std::make_unique<CpuBackend>(threads);
}

}  // namespace convoy
