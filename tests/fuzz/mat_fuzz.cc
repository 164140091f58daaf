// A meta.mat.
#include "dataloader/sources/devkit.h"
#include "tests/fuzz/support.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  convoy::fuzz::Parses([&] { convoy::ReadSynsets({data, data + size}, "meta.mat"); });
  return 0;
}
