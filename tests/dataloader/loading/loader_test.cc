#include "dataloader/loader.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <set>
#include <thread>

#include "dataloader/dataset.h"
#include "dataloader/loader_report.h"
#include "tests/dataloader/fake_dataset.h"

namespace convoy {
namespace {

using testing::ErrorOf;
using testing::ExpectError;
using testing::FakeDataset;
using testing::HashesOf;
using testing::MakeLoader;
using testing::SmallOptions;

TEST(Loader, AnEpochHasEverySampleOnceAndTheNextAnotherOrder) {
  const FakeDataset dataset(23);
  const auto loader = MakeLoader(dataset, SmallOptions(8));
  EXPECT_EQ(loader->batches_per_epoch(), 3);
  EXPECT_EQ(loader->rows(), 8);
  std::vector<int64_t> orders[2];
  for (int64_t epoch = 0; epoch < 2; ++epoch) {
    for (int64_t index = 0; index < 3; ++index) {
      const std::unique_ptr<Batch> batch = loader->Next();
      EXPECT_EQ(batch->epoch, epoch);
      EXPECT_EQ(batch->index, index);
      EXPECT_EQ(batch->global_count, index < 2 ? 8 : 7);
      EXPECT_EQ(batch->shape, (Shape{8, 28, 28, 3}));
      EXPECT_FLOAT_EQ(batch->colour_scale, 1 / 1.1f);
      for (int64_t row = 0; row < batch->global_count; ++row) {
        const SampleInfo& info = batch->samples[static_cast<size_t>(row)];
        EXPECT_EQ(info.position, index * 8 + row);
        EXPECT_EQ(info.label, dataset.Label(info.sample));
        EXPECT_EQ(info.weight, 1);
        orders[epoch].push_back(info.sample);
      }
    }
    EXPECT_EQ(std::set<int64_t>(orders[epoch].begin(), orders[epoch].end()).size(), 23u);
  }
  EXPECT_NE(orders[0], orders[1]);
}

TEST(Loader, ItsThreadsKeepTheDatasetThatEverybodyElseHasDropped) {
  auto dataset = std::make_shared<FakeDataset>(64);
  const std::weak_ptr<const Dataset> watched = dataset;
  LoaderOptions options = SmallOptions(8);
  options.threads = 3;
  auto loader = Loader::Make(std::move(dataset), options, testing::QuietLog());
  loader->Next();
  EXPECT_FALSE(watched.expired());
  loader.reset();
  EXPECT_TRUE(watched.expired());
}

TEST(Loader, RowsBehindTheLastSampleArePaddingEvenInUsedMemory) {
  const FakeDataset dataset(21);
  LoaderOptions options = SmallOptions(8);
  options.queue = 1;
  const auto loader = MakeLoader(dataset, options);
  for (int i = 0; i < 12; ++i) {
    std::unique_ptr<Batch> batch = loader->Next();
    for (size_t row = 0; row < 8; ++row) {
      const SampleInfo& info = batch->samples[row];
      const bool padding = static_cast<int64_t>(row) >= batch->global_count;
      EXPECT_EQ(info.position == -1, padding);
      EXPECT_EQ(info.sample == -1, padding);
      EXPECT_EQ(info.weight, padding ? 0 : 1);
      const auto* pixels = static_cast<const uint8_t*>(batch->pixels.data()) + row * 28 * 28 * 3;
      int64_t sum = 0;
      for (int k = 0; k < 28 * 28 * 3; ++k) sum += pixels[k];
      EXPECT_EQ(sum == 0, padding);
    }
    loader->Recycle(std::move(batch));
  }
}

TEST(Loader, ThreadsAndQueueChangeNothing) {
  const FakeDataset dataset(50);
  LoaderOptions options = SmallOptions(16);
  const std::vector<uint64_t> expected = HashesOf(*MakeLoader(dataset, options), 9);
  EXPECT_EQ(std::set<uint64_t>(expected.begin(), expected.end()).size(), 9u);
  for (const int threads : {1, 2, 8}) {
    for (const int queue : {1, 2, 5}) {
      options.threads = threads;
      options.queue = queue;
      EXPECT_EQ(HashesOf(*MakeLoader(dataset, options), 9), expected) << threads << " " << queue;
    }
  }
  options.seed = 78;
  EXPECT_NE(HashesOf(*MakeLoader(dataset, options), 1)[0], expected[0]);
}

// I4: the rows of all ranks together are those of one rank.
TEST(Loader, SharesAddUpToTheWholeBatch) {
  const FakeDataset dataset(45);
  for (const int64_t global_batch : {16, 7}) {
    LoaderOptions options = SmallOptions(global_batch);
    const auto whole = MakeLoader(dataset, options);
    for (const auto& [replicas, members] :
         std::vector<std::pair<int, int>>{{1, 2}, {2, 1}, {4, 1}, {2, 2}, {1, 4}, {3, 2}}) {
      SCOPED_TRACE(fmt::format("{} of {} replicas, {} members", global_batch, replicas, members));
      std::vector<std::unique_ptr<Loader>> parts;
      for (int rank = 0; rank < replicas * members; ++rank) {
        options.share = {rank / members, replicas, rank % members, members};
        parts.push_back(MakeLoader(dataset, options));
        EXPECT_EQ(parts.back()->rows(), options.share.Rows(global_batch));
      }
      whole->Seek(1, 0);
      for (auto& part : parts) part->Seek(1, 0);
      for (int64_t index = 0; index < whole->batches_per_epoch() + 1; ++index) {
        const auto expected = whole->Next();
        const int64_t bytes = 28 * 28 * 3;
        int64_t row = 0;
        for (auto& part : parts) {
          const auto batch = part->Next();
          EXPECT_EQ(batch->global_count, expected->global_count);
          EXPECT_EQ(batch->index, expected->index);
          for (size_t i = 0; i < batch->samples.size(); ++i) {
            if (batch->samples[i].position < 0) continue;
            const SampleInfo& other = expected->samples[static_cast<size_t>(row)];
            ASSERT_EQ(std::memcmp(&batch->samples[i], &other, sizeof(SampleInfo)), 0);
            ASSERT_EQ(
                std::memcmp(static_cast<const uint8_t*>(batch->pixels.data()) +
                                static_cast<int64_t>(i) * bytes,
                            static_cast<const uint8_t*>(expected->pixels.data()) + row * bytes,
                            static_cast<size_t>(bytes)),
                0);
            ++row;
          }
        }
        EXPECT_EQ(row, expected->global_count);
      }
    }
  }
}

TEST(Loader, SeekGivesTheBatchThatComesThereAnyway) {
  const FakeDataset dataset(40);
  LoaderOptions options = SmallOptions(12);
  options.threads = 3;
  const std::vector<uint64_t> expected = HashesOf(*MakeLoader(dataset, options), 12);  // 4 an epoch
  const auto loader = MakeLoader(dataset, options);
  for (const int64_t start : {5, 0, 11, 3, 3, 4, 10, 1}) {
    loader->Seek(start / 4, start % 4);
    const int64_t count = std::min<int64_t>(12 - start, 3);
    const std::vector<uint64_t> found = HashesOf(*loader, count);
    for (int64_t i = 0; i < count; ++i) {
      EXPECT_EQ(found[static_cast<size_t>(i)], expected[static_cast<size_t>(start + i)]) << start;
    }
  }
  EXPECT_THROW(loader->Seek(0, 4), Error);
  EXPECT_THROW(loader->Seek(-1, 0), Error);
  loader->Seek(1000, 2);
  EXPECT_EQ(loader->Next()->epoch, 1000);
}

TEST(Loader, NothingIsReadBeforeItIsAskedForAndTheQueueIsBounded) {
  FakeDataset dataset(1000);
  std::atomic<int64_t> reads{0};
  dataset.on_read = [&](int64_t, std::vector<uint8_t>&) { ++reads; };
  LoaderOptions options = SmallOptions(10);
  options.threads = 4;
  options.queue = 2;
  const auto loader = MakeLoader(dataset, options);
  EXPECT_EQ(reads, 0);
  for (int64_t batches = 1; batches <= 5; ++batches) {
    loader->Next();
    EXPECT_LE(reads, 10 * (batches + 2)) << "two batches ahead at most";
    EXPECT_GE(reads, 10 * batches);
  }
}

TEST(Loader, MemoryIsTakenFromTheAllocatorAndUsedAgain) {
  const FakeDataset dataset(100);
  std::atomic<int> allocations{0};
  LoaderOptions options = SmallOptions(10);
  options.queue = 2;
  options.allocator = [&](int64_t bytes) {
    ++allocations;
    EXPECT_EQ(bytes, 10 * 28 * 28 * 3);
    return AllocateHost(bytes);
  };
  const auto loader = MakeLoader(dataset, options);
  for (int i = 0; i < 30; ++i) loader->Recycle(loader->Next());
  EXPECT_LE(allocations, 3);
}

TEST(Loader, AnErrorOfTheAllocatorSurfacesInNext) {
  const FakeDataset dataset(10);
  LoaderOptions options = SmallOptions(4);
  options.allocator = [](int64_t) -> Buffer { throw Error(ExitCode::kDevice, "no memory"); };
  const auto loader = MakeLoader(dataset, options);
  for (int i = 0; i < 2; ++i) {
    ExpectError(ErrorOf([&] { loader->Next(); }), ExitCode::kDevice, {"no memory"});
  }
}

TEST(Loader, EvaluationIsInOrderCentredAndWithoutNoise) {
  const FakeDataset dataset(10);
  LoaderOptions options = SmallOptions(4);
  options.order = Order::kSequential;
  options.crop.random = false;
  const auto loader = MakeLoader(dataset, options);
  int64_t position = 0;
  for (int64_t i = 0; i < 3; ++i) {
    const auto batch = loader->Next();
    EXPECT_EQ(batch->colour_scale, 1);
    for (int64_t row = 0; row < batch->global_count; ++row, ++position) {
      const SampleInfo& info = batch->samples[static_cast<size_t>(row)];
      EXPECT_EQ(info.sample, position);
      EXPECT_EQ(info.mirror, 0u);
      EXPECT_EQ(info.colour_shift[0], 0);
    }
  }
  EXPECT_EQ(HashesOf(*loader, 1)[0] == 0, false);
}

TEST(Loader, TenViewsAreNeighboursAndTheMirroredOnesShowTheSamePixels) {
  const FakeDataset dataset(5);
  LoaderOptions options = SmallOptions(4);
  options.order = Order::kSequential;
  options.crop.random = false;
  options.crop.views = 10;
  const auto loader = MakeLoader(dataset, options);
  EXPECT_EQ(loader->rows(), 40);
  options.crop.views = 1;
  const auto centre = MakeLoader(dataset, options);
  for (int64_t i = 0; i < 2; ++i) {
    const auto batch = loader->Next(), single = centre->Next();
    const auto* pixels = static_cast<const uint8_t*>(batch->pixels.data());
    const auto* centre_pixels = static_cast<const uint8_t*>(single->pixels.data());
    const int64_t bytes = 28 * 28 * 3;
    for (int64_t image = 0; image < batch->global_count; ++image) {
      for (int64_t view = 0; view < 10; ++view) {
        const SampleInfo& info = batch->samples[static_cast<size_t>(10 * image + view)];
        EXPECT_EQ(info.position, 4 * i + image);
        EXPECT_EQ(info.mirror, view >= 5 ? 1u : 0u);
      }
      const uint8_t* views = pixels + 10 * image * bytes;
      EXPECT_EQ(std::memcmp(views, views + 5 * bytes, static_cast<size_t>(5 * bytes)), 0);
      EXPECT_NE(std::memcmp(views, views + bytes, static_cast<size_t>(bytes)), 0);
      EXPECT_EQ(
          std::memcmp(views + 4 * bytes, centre_pixels + image * bytes, static_cast<size_t>(bytes)),
          0);
    }
    EXPECT_EQ(batch->samples[static_cast<size_t>(10 * batch->global_count) - 1].weight, 1);
  }
}

TEST(Loader, ColourFollowsItsStrengthOverEpochs) {
  const FakeDataset dataset(8);
  const auto loader = MakeLoader(dataset, SmallOptions(8));
  for (int64_t epoch = 0; epoch < 4; ++epoch) {
    const auto batch = loader->Next();
    EXPECT_EQ(batch->samples[0].colour_shift[0] == 0, epoch >= 2);
    EXPECT_FLOAT_EQ(batch->colour_scale, epoch < 2 ? 1 / 1.1f : 1.0f);
  }
}

TEST(Loader, CountsWhatItDid) {
  const FakeDataset dataset(20);
  const auto loader = MakeLoader(dataset, SmallOptions(10));
  loader->Next();
  loader->Next();
  const LoaderStatistics statistics = loader->statistics();
  EXPECT_GE(statistics.images, 20);
  EXPECT_GT(statistics.bytes_read, 20 * 500);
  EXPECT_GT(statistics.decode_s, 0);
  EXPECT_GT(statistics.resize_s, 0);
  EXPECT_GT(statistics.wait_s, 0);
  EXPECT_EQ(statistics.bad_samples, 0);
}

TEST(Loader, OptionsThatContradictEachOtherAreRefused) {
  const FakeDataset dataset(20);
  const auto refused = [&](const std::function<void(LoaderOptions&)>& change) {
    LoaderOptions options = SmallOptions(4);
    change(options);
    return ErrorOf([&] { MakeLoader(dataset, options); }).exit_code();
  };
  EXPECT_EQ(refused([](auto& o) { o.global_batch = 0; }), ExitCode::kUsage);
  EXPECT_EQ(refused([](auto& o) { o.threads = 0; }), ExitCode::kUsage);
  EXPECT_EQ(refused([](auto& o) { o.queue = 0; }), ExitCode::kUsage);
  EXPECT_EQ(refused([](auto& o) { o.crop.crop = 33; }), ExitCode::kUsage);
  EXPECT_EQ(refused([](auto& o) { o.crop.channels = 2; }), ExitCode::kUsage);
  EXPECT_EQ(refused([](auto& o) { o.crop.channels = 1; }), ExitCode::kUsage);
  EXPECT_EQ(refused([](auto& o) { o.crop.colour_strength = nullptr; }), ExitCode::kUsage);
  EXPECT_EQ(refused([](auto& o) { o.crop.views = 10; }), ExitCode::kUsage);
  EXPECT_EQ(refused([](auto& o) { o.share.replica = 1; }), ExitCode::kUsage);
  EXPECT_EQ(refused([](auto& o) { o.share.members = 0; }), ExitCode::kUsage);
  EXPECT_EQ(refused([](auto& o) { o.allocator = nullptr; }), ExitCode::kUsage);
}

TEST(Loader, ManyRanksOfASmallBatchMayHaveNothingToDo) {
  const FakeDataset dataset(5);
  LoaderOptions options = SmallOptions(2);
  options.share = {.member = 2, .members = 3};
  const auto loader = MakeLoader(dataset, options);
  for (int i = 0; i < 6; ++i) {
    const auto batch = loader->Next();
    EXPECT_EQ(batch->samples.size(), 1u);
    EXPECT_EQ(batch->samples[0].position, -1);
  }
}

// --- Real data -----------------------------------------------------------------------------------

TEST(Loader, FormsOfTheSamePhotographsGiveTheSameStream) {
  CONVOY_NEED_SHARED("data/photos-mini.tar");
  const testing::TempFolder folder;
  const DatasetOptions open{.index_folder = folder / "index"};
  const auto nested =
      OpenDataset(testing::SharedPath("data/photos-mini.tar"), open, testing::QuietLog());
  testing::TarMaker flat, shards;
  EncodedSample sample;
  for (int64_t i = nested->size() - 1; i >= 0; --i) {
    nested->Read(i, sample);
    const std::string bytes(sample.bytes.begin(), sample.bytes.end());
    folder.Write("folder/" + nested->Name(i), bytes);
    flat.Add("photos/train/" + nested->Name(i), bytes);
    const std::string key = nested->Name(i).substr(10, nested->Name(i).size() - 15);
    shards.Add(key + ".jpg", bytes).Add(key + ".cls", std::to_string(nested->Label(i)));
  }
  folder.Write("flat.tar", flat.Finish());
  folder.Write("shards.tar", shards.Finish());
  LoaderOptions options;
  options.seed = 5;
  options.global_batch = 40;
  options.threads = 2;
  const std::vector<uint64_t> expected = HashesOf(*MakeLoader(*nested, options), 3);
  for (const char* form : {"folder", "flat.tar", "flat.tar:train", "shards.tar"}) {
    const auto dataset = OpenDataset(folder / form, open, testing::QuietLog());
    EXPECT_EQ(HashesOf(*MakeLoader(*dataset, options), 3), expected) << form;
  }
}

TEST(Loader, PlainPixelsOfTheCropsOwnSizeArriveUnchanged) {
  const testing::TempFolder folder;
  std::string pixels, labels;
  for (int i = 0; i < 5; ++i) {
    for (int k = 0; k < 28 * 28; ++k) pixels += static_cast<char>(31 * i + 7 * k);
    labels += static_cast<char>(i / 2);
  }
  folder.Write("train-images",
               std::string("\0\0\x08\x03\0\0\0\5\0\0\0\x1c\0\0\0\x1c", 16) + pixels);
  folder.Write("train-labels", std::string("\0\0\x08\x01\0\0\0\5", 8) + labels);
  const auto dataset = OpenDataset(folder.path() + ":train", {}, testing::QuietLog());
  for (const int channels : {1, 3}) {
    LoaderOptions options = SmallOptions(5);
    options.crop = {.resize = 28, .crop = 28, .channels = channels};
    options.order = Order::kSequential;
    const auto batch = MakeLoader(*dataset, options)->Next();
    const auto* found = static_cast<const uint8_t*>(batch->pixels.data());
    for (int64_t i = 0; i < 5 * 28 * 28 * channels; ++i) {
      ASSERT_EQ(found[i], static_cast<uint8_t>(pixels[static_cast<size_t>(i / channels)]));
    }
  }
}

}  // namespace
}  // namespace convoy
