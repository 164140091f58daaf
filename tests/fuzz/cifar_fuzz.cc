// Flags (1: CIFAR-100, else CIFAR-10; 2: zeros fill the last record), the bytes of the text of
// class names (16 bits), that text, then the records.
#include <algorithm>
#include <filesystem>

#include "dataloader/sources/folder.h"
#include "dataloader/sources/sources.h"
#include "tests/fuzz/support.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace convoy;
  fuzz::Input input(data, size);
  const uint8_t flags = input.Byte();
  const bool is_hundred = (flags & 1) != 0;
  const std::string folder = is_hundred ? "100" : "10";
  const size_t name_bytes = input.Word();
  fuzz::WriteFile(folder + (is_hundred ? "/fine_label_names.txt" : "/batches.meta.txt"),
                  input.Take(name_bytes));
  std::string records(input.Rest());
  const size_t record_bytes = (is_hundred ? 2 : 1) + 3 * 32 * 32;
  if ((flags & 2) != 0) {
    records.resize((records.size() + record_bytes - 1) / record_bytes * record_bytes);
  }
  fuzz::WriteFile(folder + (is_hundred ? "/train.bin" : "/data_batch_1.bin"), records);
  fuzz::Parses([&] {
    const std::string path = fuzz::Folder() + "/" + folder;
    const std::unique_ptr<Dataset> dataset = OpenCifar(path, NamesOfOtherFiles(path), "train");
    EncodedSample sample;
    for (int64_t i = 0; i < dataset->size(); ++i) {
      fuzz::Require(dataset->Label(i) < std::ssize(dataset->classes()), "a label of no class");
      fuzz::Require(!dataset->Name(i).empty() && !dataset->Location(i).empty(), "no name");
      dataset->Read(i, sample);
    }
  });
  return 0;
}
