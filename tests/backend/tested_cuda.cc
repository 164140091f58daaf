// The CUDA backend on a real device. If there is none, every test is skipped.
#include <mutex>
#include <string>
#include <utility>

#include "core/error.h"
#include "tests/backend/tested.h"

namespace convoy {
namespace {

class DeviceListener final : public testing::EmptyTestEventListener {
 public:
  void OnTestProgramStart(const testing::UnitTest&) override {
    try {
      MakeCudaBackend({});
    } catch (const Error& error) {
      if (error.exit_code() == ExitCode::kDevice) missing_ = error.message();
    }
  }
  void OnTestStart(const testing::TestInfo&) override {
    if (!missing_.empty()) GTEST_SKIP() << "no device: skipped: " << missing_;
  }

 private:
  std::string missing_;
};

// The kernels that this program has chosen so far: measuring them anew in every test takes minutes.
class KnownChoices {
 public:
  static KnownChoices& Instance() {
    static KnownChoices instance;
    return instance;
  }
  // `choices`, and what is known of other products.
  KernelChoices AddTo(KernelChoices choices) {
    const std::lock_guard lock(mutex_);
    choices.insert(known_.begin(), known_.end());
    return choices;
  }
  void Learn(const KernelChoices& choices) {
    const std::lock_guard lock(mutex_);
    for (const auto& [product, choice] : choices) known_[product] = choice;
  }

 private:
  std::mutex mutex_;  // ranks may be threads
  KernelChoices known_;
};

// A CUDA backend whose choices later ones are given.
class ChoosingOnce final : public Backend {
 public:
  explicit ChoosingOnce(std::unique_ptr<Backend> backend) : backend_(std::move(backend)) {}

  std::string Describe() const override { return backend_->Describe(); }
  Device device() const override { return backend_->device(); }
  DType master_dtype() const override { return backend_->master_dtype(); }
  void RequireDType(DType dtype) const override { backend_->RequireDType(dtype); }
  std::unique_ptr<Stream> MakeStream() override { return backend_->MakeStream(); }
  Buffer Allocate(int64_t bytes) override { return backend_->Allocate(bytes); }
  Buffer AllocateStaging(int64_t bytes) override { return backend_->AllocateStaging(bytes); }
  int64_t device_memory_in_use() const override { return backend_->device_memory_in_use(); }
  void CopyToHost(Stream& stream, const Tensor& from, void* to) override {
    backend_->CopyToHost(stream, from, to);
  }
  void CopyToDevice(Stream& stream, const void* from, const Tensor& to) override {
    backend_->CopyToDevice(stream, from, to);
  }
  std::unique_ptr<InputStage> CompileInput(const InputOptions& options) override {
    return backend_->CompileInput(options);
  }
  std::unique_ptr<Network> Compile(const SegmentSpec& segment, const CompileOptions& options,
                                   const NetworkArenas& arenas) override {
    std::unique_ptr<Network> network = backend_->Compile(segment, options, arenas);
    KnownChoices::Instance().Learn(backend_->kernel_choices());
    return network;
  }
  void ConcatenateChannels(Stream& stream, const Tensor& blocks, const Tensor& whole) override {
    backend_->ConcatenateChannels(stream, blocks, whole);
  }
  void SplitChannels(Stream& stream, const Tensor& whole, const Tensor& blocks) override {
    backend_->SplitChannels(stream, whole, blocks);
  }
  std::unique_ptr<Updater> CompileUpdate(const UpdateArenas& arenas,
                                         const UpdateOptions& options) override {
    return backend_->CompileUpdate(arenas, options);
  }
  std::unique_ptr<StepRunner> MakeStepRunner(bool records) override {
    return backend_->MakeStepRunner(records);
  }
  KernelChoices kernel_choices() const override { return backend_->kernel_choices(); }
  void UseKernelChoices(const KernelChoices& choices) override {
    backend_->UseKernelChoices(choices);
  }
  void ConvertTensor(Stream& stream, const Tensor& from, const Tensor& to) override {
    backend_->ConvertTensor(stream, from, to);
  }
  void RefreshCompute(Stream& stream, const Tensor& parameters, const Tensor& compute) override {
    backend_->RefreshCompute(stream, parameters, compute);
  }

 private:
  std::unique_ptr<Backend> backend_;
};

const bool kListens = [] {
  testing::UnitTest::GetInstance()->listeners().Append(new DeviceListener);
  return true;
}();

}  // namespace

std::unique_ptr<Backend> MakeTestedBackend(int, const KernelChoices& choices) {
  return MakeTestedCudaBackend({.kernel_choices = choices});
}

std::unique_ptr<Backend> MakeTestedCudaBackend(const CudaOptions& options) {
  CudaOptions with_known = options;
  with_known.kernel_choices = KnownChoices::Instance().AddTo(options.kernel_choices);
  return std::make_unique<ChoosingOnce>(MakeCudaBackend(with_known));
}

std::vector<DType> TestedTypes() { return {DType::kFloat32, DType::kBFloat16}; }

bool FusionKeepsBits() { return false; }

bool IsOnADevice() { return true; }

bool IsEmulated() { return false; }

}  // namespace convoy
