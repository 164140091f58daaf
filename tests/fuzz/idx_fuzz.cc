// The bytes of the labels' file (16 bits), that file, then the images' file. Either may be gzip.
#include <algorithm>

#include "dataloader/sources/folder.h"
#include "dataloader/sources/sources.h"
#include "tests/fuzz/support.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace convoy;
  fuzz::Input input(data, size);
  const size_t label_bytes = input.Word();
  fuzz::WriteFile("train-labels-idx1-ubyte", input.Take(label_bytes));
  fuzz::WriteFile("train-images-idx3-ubyte", input.Rest());
  fuzz::Parses([&] {
    const std::vector<std::string> files = NamesOfOtherFiles(fuzz::Folder());
    const std::unique_ptr<Dataset> dataset = OpenIdx(fuzz::Folder(), files, "train");
    constexpr int64_t kMostSamples = 32;
    const int64_t size_of_set = dataset->size();
    EncodedSample sample;
    for (int64_t k = 0; k < std::min(size_of_set, kMostSamples); ++k) {
      const int64_t i = k < kMostSamples / 2 ? k : size_of_set - 1 - (k - kMostSamples / 2);
      fuzz::Require(dataset->Label(i) < std::ssize(dataset->classes()), "a label of no class");
      fuzz::Require(!dataset->Name(i).empty() && !dataset->Location(i).empty(), "no name");
      dataset->Read(i, sample);
    }
  });
  return 0;
}
