#include "dataloader/statistics.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <filesystem>

#include "dataloader/crop_options.h"
#include "dataloader/crops/crop_plan.h"
#include "dataloader/crops/crop_renderer.h"
#include "dataloader/dataset.h"
#include "tests/dataloader/fake_dataset.h"

namespace convoy {
namespace {

using testing::ErrorOf;
using testing::ExpectError;
using testing::FakeDataset;

constexpr int kSide = 32;

// The squares of all samples, through the loader's own resizing: uint8 [n, 32, 32, channels].
std::vector<std::vector<uint8_t>> Squares(const Dataset& dataset, Geometry geometry, int channels) {
  std::vector<std::vector<uint8_t>> squares;
  CropRenderer renderer;
  EncodedSample sample;
  for (int64_t i = 0; i < dataset.size(); ++i) {
    dataset.Read(i, sample);
    const ImageInfo info = renderer.Open(sample);
    const CropPlan plan =
        PlanCrops(info.width, info.height,
                  {.geometry = geometry, .resize = kSide, .crop = kSide, .random = false}, {});
    std::vector<uint8_t>& square = squares.emplace_back(kSide * kSide * channels);
    renderer.Render(plan, kSide, kSide, channels, square.data());
  }
  return squares;
}

TEST(Statistics, AreThoseOfABruteForceSum) {
  const FakeDataset dataset(13);
  for (const int channels : {1, 3}) {
    for (const Geometry geometry : {Geometry::kSquare2012, Geometry::kSquash}) {
      StatisticsAccumulator accumulator(geometry, kSide, channels, 8);
      accumulator.Add(dataset, 0, dataset.size(), 3);
      const DataStatistics found = accumulator.Finish();
      EXPECT_EQ(found.images, 13);

      const auto squares = Squares(dataset, geometry, channels);
      const auto count = static_cast<size_t>(kSide * kSide * channels);
      std::vector<double> mean(count, 0), channel(static_cast<size_t>(channels), 0);
      for (size_t k = 0; k < count; ++k) {
        for (const auto& square : squares) mean[k] += square[k] / 13.0;
        channel[k % static_cast<size_t>(channels)] += mean[k] / (kSide * kSide);
        ASSERT_NEAR(found.mean_image[k], mean[k], 1e-4);  // float rounding at 255
      }
      for (size_t a = 0; a < channel.size(); ++a) {
        EXPECT_NEAR(found.channel_mean[a], channel[a], 1e-4);
        for (size_t b = 0; b < channel.size(); ++b) {
          double covariance = 0;
          for (const auto& square : squares) {
            for (size_t k = 0; k < count; k += channel.size()) {
              covariance += (square[k + a] - channel[a]) * (square[k + b] - channel[b]) /
                            (13.0 * kSide * kSide);
            }
          }
          EXPECT_NEAR(found.colour_covariance[a * channel.size() + b], covariance, 1e-6);
          if (a == b) {
            EXPECT_NEAR(found.channel_deviation[a], std::sqrt(covariance), 1e-4);
          }
        }
      }
    }
  }
}

TEST(Statistics, ThreadsAndRanksChangeNoBit) {
  const FakeDataset dataset(40);
  StatisticsAccumulator whole(Geometry::kSquare2012, kSide, 3, 8);
  whole.Add(dataset, 0, 40, 1);
  StatisticsAccumulator first(Geometry::kSquare2012, kSide, 3, 8);
  StatisticsAccumulator second(Geometry::kSquare2012, kSide, 3, 8);
  first.Add(dataset, 0, 17, 4);
  second.Add(dataset, 17, 40, 2);
  const Tensor sums = first.Sums(), others = second.Sums();
  ASSERT_EQ(sums.count(), others.count());
  for (int64_t i = 0; i < sums.count(); ++i) sums.As<double>()[i] += others.As<double>()[i];
  EXPECT_EQ(first.Finish().mean_image, whole.Finish().mean_image);
  EXPECT_EQ(first.Finish().colour_covariance, whole.Finish().colour_covariance);
  EXPECT_EQ(first.Finish().images, 40);
}

TEST(Statistics, CentralMeanIsTheMiddleOfTheMeanImage) {
  DataStatistics statistics{.images = 1, .resize = 256, .channels = 3, .mean_image = {}};
  for (int i = 0; i < 256 * 256 * 3; ++i) statistics.mean_image.push_back(static_cast<float>(i));
  const std::vector<float> central = statistics.CentralMean(224);
  ASSERT_EQ(central.size(), 224u * 224u * 3u);
  EXPECT_EQ(central[0], static_cast<float>((16 * 256 + 16) * 3));
  EXPECT_EQ(central[224 * 3], static_cast<float>((17 * 256 + 16) * 3));
  EXPECT_EQ(central.back(), static_cast<float>((239 * 256 + 239) * 3 + 2));
}

TEST(Statistics, AreSavedAndLoadedAndDamageIsNoticed) {
  const testing::TempFolder folder;
  const FakeDataset dataset(5);
  StatisticsAccumulator accumulator(Geometry::kSquare2012, kSide, 3, 8);
  accumulator.Add(dataset, 0, 5, 1);
  const DataStatistics saved = accumulator.Finish();
  const std::string path = folder / "mean.statistics";
  SaveStatistics(saved, path);
  const DataStatistics loaded = LoadStatistics(path);
  EXPECT_EQ(loaded.images, saved.images);
  EXPECT_EQ(loaded.resize, saved.resize);
  EXPECT_EQ(loaded.channels, saved.channels);
  EXPECT_EQ(loaded.mean_image, saved.mean_image);
  EXPECT_EQ(loaded.channel_mean, saved.channel_mean);
  EXPECT_EQ(loaded.channel_deviation, saved.channel_deviation);
  EXPECT_EQ(loaded.colour_covariance, saved.colour_covariance);

  const std::string bytes = testing::ReadFile(path);
  for (const size_t at : {size_t{0}, size_t{9}, size_t{20}, bytes.size() / 2, bytes.size() - 1}) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 4);
    folder.Write("damaged", damaged);
    ExpectError(ErrorOf([&] { LoadStatistics(folder / "damaged"); }), ExitCode::kData, {"damaged"});
  }
  folder.Write("short", bytes.substr(0, bytes.size() / 2));
  ExpectError(ErrorOf([&] { LoadStatistics(folder / "short"); }), ExitCode::kData, {"short"});
  ExpectError(ErrorOf([&] { LoadStatistics(folder / "none"); }), ExitCode::kData, {"none"});
}

TEST(Statistics, AreKeptUnderAnotherNameForAnotherDataSetAtTheSamePath) {
  const testing::TempFolder folder;
  const auto path_of = [&](const Dataset& dataset, int side) {
    return StatisticsPath(folder / "data.tar", "", dataset, Geometry::kSquare2012, side, 3);
  };
  folder.Write("cats/cat/1.jpg", "");
  folder.Write("dogs/dog/1.jpg", "");
  const auto cats = OpenDataset(folder / "cats", {}, testing::QuietLog());
  const auto dogs = OpenDataset(folder / "dogs", {}, testing::QuietLog());
  EXPECT_EQ(path_of(*cats, kSide), path_of(*cats, kSide));
  EXPECT_NE(path_of(*cats, kSide), path_of(*dogs, kSide));
  EXPECT_NE(path_of(*cats, kSide), path_of(*cats, kSide + 1));
}

TEST(Statistics, AreNotThoseOfImagesThatWereReplaced) {
  const testing::TempFolder folder;
  folder.Write("data/cat/1.jpg", testing::MakeJpeg(40, 40, 1));
  folder.Write("data/cat/2.jpg", testing::MakeJpeg(40, 40, 2));
  testing::TarMaker tar;
  folder.Write("data.tar", tar.Add("cat/1.jpg", testing::MakeJpeg(40, 40, 1)).Finish());
  namespace fs = std::filesystem;
  const auto later = [](const std::string& path) {
    fs::last_write_time(path, fs::last_write_time(path) + std::chrono::seconds(1));
  };
  for (const std::string& name : {std::string("data"), std::string("data.tar")}) {
    const auto open = [&] { return OpenDataset(folder / name, {}, testing::QuietLog()); };
    const auto dataset = open();
    const std::string path = folder / "statistics";
    StatisticsAccumulator accumulator(Geometry::kSquare2012, kSide, 3, 0);
    accumulator.Add(*dataset, 0, dataset->size(), 1);
    DataStatistics statistics = accumulator.Finish();
    statistics.stamp = StampOf(*dataset);
    SaveStatistics(statistics, path);
    ASSERT_TRUE(LoadStatisticsOf(*open(), path, testing::QuietLog()));
    EXPECT_FALSE(LoadStatisticsOf(*open(), folder / "none", testing::QuietLog()));
    later(name == "data" ? folder / "data/cat/2.jpg" : folder / name);
    EXPECT_FALSE(LoadStatisticsOf(*open(), path, testing::QuietLog()));
    // The path is the same, so that the new ones replace the old.
    const auto path_of = [&](const Dataset& of) {
      return StatisticsPath(folder / name, "", of, Geometry::kSquare2012, kSide, 3);
    };
    EXPECT_EQ(path_of(*open()), path_of(*dataset));
  }
  EXPECT_TRUE(IsStatisticsFile(folder / "statistics"));
  EXPECT_FALSE(IsStatisticsFile(folder / "data.tar"));
  EXPECT_FALSE(IsStatisticsFile(folder / "none"));
}

TEST(Statistics, AreFoundUnderEveryPathOfAFolder) {
  const testing::TempFolder folder;
  folder.Write("data/cat/1.jpg", "");
  const auto path_of = [&](const std::string& location) {
    return StatisticsPath(location, "", *OpenDataset(location, {}, testing::QuietLog()),
                          Geometry::kSquare2012, kSide, 3);
  };
  EXPECT_EQ(path_of(folder / "data"), path_of(folder.path() + "/./data/../data"));
}

TEST(Statistics, LeaveOutBadSamplesAndStopAtTooMany) {
  FakeDataset dataset(40);
  int64_t bad = 3;
  dataset.on_read = [&bad](int64_t sample, std::vector<uint8_t>& bytes) {
    if (sample < bad) bytes.clear();
  };
  StatisticsAccumulator accumulator(Geometry::kSquare2012, kSide, 3, 8);
  accumulator.Add(dataset, 0, 40, 2);
  EXPECT_EQ(accumulator.Finish().images, 37);
  EXPECT_EQ(accumulator.Finish().left_out, 3);
  ASSERT_EQ(accumulator.bad().size(), 3u);
  EXPECT_EQ(accumulator.bad()[1].name, dataset.Name(1));
  bad = 9;
  ExpectError(ErrorOf([&] { accumulator.Add(dataset, 0, 40, 2); }), ExitCode::kData,
              {"bad samples, at most 8 expected"});
  ExpectError(ErrorOf([] { StatisticsAccumulator(Geometry::kSquash, 8, 3, 8).Finish(); }),
              ExitCode::kData, {"no image"});
}

}  // namespace
}  // namespace convoy
