// Whether the rest is the whole file (1), or what lies between version and checksum; then a file of
// statistics.
#include "dataloader/statistics.h"
#include "tests/fuzz/support.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace convoy;
  fuzz::Input input(data, size);
  const bool is_whole = input.Byte() == 1;
  const std::string_view rest = input.Rest();
  const std::string path = fuzz::WriteFile(
      "a.convoy-stats", is_whole ? std::string(rest) : fuzz::Checked("CONVOYST", 2, rest));
  fuzz::Parses([&] {
    const DataStatistics statistics = LoadStatistics(path);
    for (const int crop : {1, statistics.resize}) {
      const auto values = static_cast<size_t>(int64_t{crop} * crop * statistics.channels);
      fuzz::Require(statistics.CentralMean(crop).size() == values, "a mean of another size");
    }
  });
  return 0;
}
