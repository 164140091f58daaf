#include "core/device/cuda_module.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace convoy {
namespace {

// This program has no RUNPATH to a module.
TEST(CudaModule, SaysInOneLineThatItIsMissing) {
  try {
    CudaModuleFunction("convoy_make_cuda_backend");
    FAIL() << "a module was found";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kDevice);
    EXPECT_NE(error.message().find("libconvoy_cuda.so"), std::string::npos) << error.message();
    EXPECT_EQ(error.message().find('\n'), std::string::npos) << error.message();
    EXPECT_NE(error.hint().find("--backend cpu"), std::string::npos) << error.hint();
  }
}

}  // namespace
}  // namespace convoy
