// A form, then a devkit: (0) the bytes of a text of truth (16 bits), that text, a meta.txt; (1) one
// file: a text of wnids, a tar with the right checksums put in, or a tar.gz; (2) the same
// untouched.
#include "dataloader/sources/devkit.h"
#include "tests/fuzz/support.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace convoy;
  fuzz::Input input(data, size);
  const int form = input.Byte() % 3;
  std::string path;
  if (form == 0) {
    const size_t truth_bytes = input.Word();
    path = fuzz::WriteFile("texts/a_validation_ground_truth.txt", input.Take(truth_bytes));
    fuzz::WriteFile("texts/meta.txt", input.Rest());
  } else {
    const std::string_view rest = input.Rest();
    path =
        fuzz::WriteFile("one/devkit", form == 1 ? fuzz::WithTarChecksums(rest) : std::string(rest));
  }
  fuzz::Parses([&] {
    const ValidationTruth truth = ReadDevkit(path);
    for (const int32_t label : truth.labels) {
      fuzz::Require(label >= 0 && label < std::ssize(truth.wnids), "a label of no class");
    }
  });
  return 0;
}
