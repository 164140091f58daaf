// A global batch in parts, for steps that add up their gradients.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <vector>

#include "dataloader/loader.h"
#include "tests/dataloader/fake_dataset.h"

namespace convoy {
namespace {

using testing::FakeDataset;
using testing::MakeLoader;
using testing::SmallOptions;

// Parts of a batch that come one after another have the same rows, on every rank; those that would
// be empty are left out.
TEST(Loader, MicroBatchesAddUpToTheWholeBatch) {
  const FakeDataset dataset(45);
  LoaderOptions options = SmallOptions(16);
  const auto whole = MakeLoader(dataset, options);
  for (const int micro_batches : {2, 3, 5, 16}) {
    options.micro_batches = micro_batches;
    std::vector<std::unique_ptr<Loader>> parts;
    for (int replica = 0; replica < 2; ++replica) {
      options.share = {.replica = replica, .replicas = 2};
      parts.push_back(MakeLoader(dataset, options));
      EXPECT_EQ(parts.back()->rows(), options.share.Rows(options.MicroBatchSize()));
    }
    whole->Seek(0, 0);
    // 16, 16 and 13 images, and then the first batch of the next epoch.
    for (const int64_t count : {16, 16, 13, 16}) {
      SCOPED_TRACE(fmt::format("{} micro-batches of {} images", micro_batches, count));
      const auto expected = whole->Next();
      size_t row = 0;
      const int expected_parts = options.MicroBatchesOf(count);
      for (int micro = 0; micro < expected_parts; ++micro) {
        for (auto& part : parts) {
          const auto batch = part->Next();
          EXPECT_EQ(batch->micro, (MicroBatch{micro, expected_parts}));
          EXPECT_EQ(batch->global_count, count);
          EXPECT_EQ(batch->index, expected->index);
          EXPECT_EQ(batch->epoch, expected->epoch);
          for (const SampleInfo& sample : batch->samples) {
            if (sample.position < 0) continue;
            ASSERT_LT(row, expected->samples.size());
            EXPECT_EQ(std::memcmp(&sample, &expected->samples[row++], sizeof(SampleInfo)), 0);
          }
        }
      }
      EXPECT_EQ(row, static_cast<size_t>(count));
    }
  }
  options.micro_batches = 17;
  EXPECT_THROW(MakeLoader(dataset, options), Error);
}

}  // namespace
}  // namespace convoy
