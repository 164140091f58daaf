#include <gtest/gtest.h>

#include <set>

#include "dataloader/dataset_view.h"
#include "tests/dataloader/support.h"

namespace convoy {
namespace {

using testing::ErrorOf;
using testing::ExpectError;
using testing::TarMaker;
using testing::TempFolder;

std::set<std::string> NamesOf(const Dataset& dataset) {
  std::set<std::string> names;
  for (int64_t i = 0; i < dataset.size(); ++i) names.insert(dataset.Name(i));
  return names;
}

std::shared_ptr<const Dataset> Open(const std::string& location) {
  return OpenDataset(location, {}, testing::QuietLog());
}

std::string NameOf(int i) { return fmt::format("c{}/{:03}.jpg", i % 3, i); }

TEST(SplitByName, HoldsOutAShareOfAllSamples) {
  const auto dataset = Open("synthetic:10000x10");
  const DatasetSplit split = SplitByName(dataset, 0.1);
  EXPECT_EQ(split.training->size() + split.held_out->size(), 10000);
  // Five standard deviations of a binomial.
  EXPECT_NEAR(static_cast<double>(split.held_out->size()), 1000, 150);
  EXPECT_EQ(split.held_out->classes(), dataset->classes());
  std::set<std::string> names = NamesOf(*split.training);
  names.merge(NamesOf(*split.held_out));
  EXPECT_EQ(names.size(), 10000u) << "no sample is in both parts";
  // A larger share holds out more, and still the same.
  const std::set<std::string> more = NamesOf(*SplitByName(dataset, 0.2).held_out);
  for (const std::string& name : NamesOf(*split.held_out)) EXPECT_TRUE(more.contains(name));
  EXPECT_NE(split.held_out->Describe().find("held out"), std::string::npos);
}

TEST(SplitByName, DependsOnNamesAlone) {
  const TempFolder folder;
  TarMaker flat;
  for (int i = 0; i < 60; ++i) {
    const std::string image = testing::MakeJpeg(8, 8, static_cast<uint32_t>(i));
    folder.Write("plain/" + NameOf(i), image);
    flat.Add("train/" + NameOf(59 - i), testing::MakeJpeg(8, 8, static_cast<uint32_t>(59 - i)));
  }
  folder.Write("flat.tar", flat.Finish());
  const DatasetSplit plain = SplitByName(Open(folder / "plain"), 0.2);
  const std::set<std::string> held_out = NamesOf(*plain.held_out);
  EXPECT_EQ(NamesOf(*SplitByName(Open(folder / "flat.tar"), 0.2).held_out), held_out);
  EncodedSample sample;
  for (int64_t i = 0; i < plain.held_out->size(); ++i) {
    const std::string name = plain.held_out->Name(i);
    EXPECT_EQ(plain.held_out->Label(i), name[1] - '0');
    plain.held_out->Read(i, sample);
    EXPECT_EQ(std::string(sample.bytes.begin(), sample.bytes.end()),
              testing::ReadFile(folder / ("plain/" + name)));
  }
  // Images that are added leave the others where they were.
  for (int i = 60; i < 120; ++i) folder.Write("plain/" + NameOf(i), "x");
  const std::set<std::string> now = NamesOf(*SplitByName(Open(folder / "plain"), 0.2).held_out);
  for (int i = 0; i < 60; ++i) EXPECT_EQ(now.contains(NameOf(i)), held_out.contains(NameOf(i)));
}

TEST(SplitByName, APartTellsOfItsFilesAsTheWholeDoes) {
  const TempFolder folder;
  TarMaker tar;
  for (int i = 0; i < 40; ++i) {
    const std::string bytes(static_cast<size_t>(i + 1), 'x');
    folder.Write("plain/" + NameOf(i), bytes);
    tar.Add(NameOf(i), bytes);
  }
  folder.Write("plain/c0/x.webp", "x");
  const std::string path = folder.Write("a.tar", tar.Add("c0/x.webp", "x").Finish());
  for (const std::string& location : {folder / "plain", path}) {
    const auto whole = Open(location);
    const auto part = SplitByName(whole, 0.5).training;
    EXPECT_EQ(part->Archives(), whole->Archives());
    EXPECT_EQ(part->left_out().count(), 1);
    for (int64_t i = 0; i < part->size(); ++i) {
      const int number = std::stoi(part->Name(i).substr(3));
      EXPECT_EQ(part->FileBytes(i), number + 1);
    }
  }
}

TEST(SplitByName, NeitherPartIsEmpty) {
  const auto dataset = Open("synthetic:4x2");
  for (const double share : {1e-9, 0.999999}) {
    ExpectError(ErrorOf([&] { SplitByName(dataset, share); }), ExitCode::kUsage,
                {"--val-split", "of 4 images"});
  }
}

}  // namespace
}  // namespace convoy
