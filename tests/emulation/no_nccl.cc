// What comm/device/nccl.cc looks up in the CUDA module, on the emulated device: a version, and no
// NCCL.
#include "comm/device/nccl_group.h"
#include "core/error.h"

namespace convoy {
namespace {

// From 2.30 on, NCCL would be asked to connect ranks that share the device.
constexpr int kVersion = 22809;

[[noreturn]] void Refuse() {
  throw Error(ExitCode::kDevice, "the emulated device has no NCCL",
              "give --communicator mpi, or --share-device on where the ranks share one device");
}

}  // namespace
}  // namespace convoy

extern "C" __attribute__((visibility("default"))) int convoy_nccl_version() {
  return convoy::kVersion;
}

extern "C" __attribute__((visibility("default"))) void convoy_nccl_make_id(convoy::NcclId&) {
  convoy::Refuse();
}

extern "C" __attribute__((visibility("default"))) convoy::NcclGroup* convoy_nccl_make_group(
    const convoy::NcclGroupOptions&) {
  convoy::Refuse();
}
