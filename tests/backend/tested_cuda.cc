// The CUDA backend on a real device. Where there is none, every test is skipped.
#include <string>

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

const bool kListens = [] {
  testing::UnitTest::GetInstance()->listeners().Append(new DeviceListener);
  return true;
}();

}  // namespace

std::unique_ptr<Backend> MakeTestedBackend(int, const KernelChoices& choices) {
  return MakeTestedCudaBackend({.kernel_choices = choices});
}

std::unique_ptr<Backend> MakeTestedCudaBackend(const CudaOptions& options) {
  return MakeCudaBackend(options);
}

std::vector<DType> TestedTypes() { return {DType::kFloat32, DType::kBFloat16}; }

bool FusionKeepsBits() { return false; }

bool IsEmulated() { return false; }

}  // namespace convoy
