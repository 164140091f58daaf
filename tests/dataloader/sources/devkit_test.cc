#include "dataloader/sources/devkit.h"

#include <gtest/gtest.h>
#include <matio.h>

#include <filesystem>

#include "dataloader/dataset.h"
#include "tests/dataloader/support.h"

namespace convoy {
namespace {

using testing::ErrorOf;
using testing::ExpectError;
using testing::TarMaker;
using testing::TempFolder;

struct Row {
  int id;
  const char* wnid;
  int children;
};
// In the devkit's order, which is not that of the wnids; the last is above others.
const std::vector<Row> kRows = {
    {1, "n02119789", 0}, {2, "n02100735", 0}, {3, "n01440764", 0}, {4, "n00001740", 3}};

// A meta.mat as in the devkit: a struct array synsets.
std::string MakeMat(const TempFolder& folder, const std::vector<Row>& rows,
                    const char* id_name = "ILSVRC2012_ID", bool compressed = true) {
  const std::string path = folder / "made.mat";
  mat_t* mat = Mat_CreateVer(path.c_str(), nullptr, MAT_FT_MAT5);
  const char* fields[] = {id_name, "WNID", "words", "num_children"};
  size_t dims[2] = {rows.size(), 1};
  matvar_t* synsets = Mat_VarCreateStruct("synsets", 2, dims, fields, 4);
  for (size_t i = 0; i < rows.size(); ++i) {
    size_t one[2] = {1, 1};
    uint16_t id = static_cast<uint16_t>(rows[i].id);
    double children = rows[i].children;
    std::string wnid = rows[i].wnid, words = "some, words";
    size_t wnid_dims[2] = {1, wnid.size()}, words_dims[2] = {1, words.size()};
    const auto set = [&](const char* name, matvar_t* value) {
      Mat_VarSetStructFieldByName(synsets, name, i, value);
    };
    set(id_name, Mat_VarCreate(nullptr, MAT_C_UINT16, MAT_T_UINT16, 2, one, &id, 0));
    set("WNID", Mat_VarCreate(nullptr, MAT_C_CHAR, MAT_T_UTF8, 2, wnid_dims, wnid.data(), 0));
    set("words", Mat_VarCreate(nullptr, MAT_C_CHAR, MAT_T_UTF8, 2, words_dims, words.data(), 0));
    set("num_children", Mat_VarCreate(nullptr, MAT_C_DOUBLE, MAT_T_DOUBLE, 2, one, &children, 0));
  }
  Mat_VarWrite(mat, synsets, compressed ? MAT_COMPRESSION_ZLIB : MAT_COMPRESSION_NONE);
  Mat_VarFree(synsets);
  Mat_Close(mat);
  return testing::ReadFile(path);
}

constexpr const char* kTruth = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt";
constexpr const char* kMeta = "ILSVRC2012_devkit_t12/data/meta.mat";

// Images 1 to 5 of the classes 3, 1, 2, 1, 3.
constexpr const char* kTruthText = "3\n1\n2\n1\n3\n";
const std::vector<std::string> kWnids = {"n01440764", "n02100735", "n02119789"};
const std::vector<int32_t> kLabels = {0, 2, 1, 2, 0};

void ExpectTruth(const ValidationTruth& truth) {
  EXPECT_EQ(truth.wnids, kWnids);
  EXPECT_EQ(truth.labels, kLabels);
}

TEST(Devkit, IsReadAsFolderArchiveAndCompressedArchive) {
  TempFolder folder;
  for (const bool compressed : {true, false}) {
    const std::string mat = MakeMat(folder, kRows, "ILSVRC2012_ID", compressed);
    folder.Write(fmt::format("{}/{}", compressed, kTruth), kTruthText);
    folder.Write(fmt::format("{}/{}", compressed, kMeta), mat);
    ExpectTruth(ReadDevkit(folder / fmt::format("{}", compressed)));
    ExpectTruth(ReadDevkit(folder / fmt::format("{}/{}", compressed, kTruth)));
    const std::string tar = TarMaker()
                                .Add("ILSVRC2012_devkit_t12/", "", '5')
                                .Add("ILSVRC2012_devkit_t12/readme.txt", "hello")
                                .Add(kTruth, kTruthText)
                                .Add(kMeta, mat)
                                .Finish();
    ExpectTruth(ReadDevkit(folder.Write("devkit.tar", tar)));
    ExpectTruth(ReadDevkit(folder.Write("devkit.tar.gz", testing::Gzip(tar))));
  }
}

TEST(Devkit, IsReadFromTextAlone) {
  TempFolder folder;
  folder.Write("kit/x_validation_ground_truth.txt", "3\r\n1\r\n2\r\n1\r\n3\r\n");
  folder.Write("kit/meta.txt", "1 n02119789 kit fox\n2 n02100735 setter\n3\tn01440764 tench\n");
  ExpectTruth(ReadDevkit(folder / "kit"));
  ExpectTruth(ReadDevkit(
      folder.Write("labels.txt", "n01440764\nn02119789\nn02100735\nn02119789\nn01440764\n")));
}

TEST(Devkit, OfAnotherYearHasItsOwnField) {
  TempFolder folder;
  folder.Write("kit/ILSVRC2010_validation_ground_truth.txt", kTruthText);
  folder.Write("kit/meta.mat", MakeMat(folder, kRows, "ILSVRC2010_ID"));
  ExpectTruth(ReadDevkit(folder / "kit"));
}

TEST(Devkit, WrongContentsAreNamedWithTheirLine) {
  TempFolder folder;
  const auto read = [&](const std::string& truth, const std::string& mat) {
    folder.Write("kit/a_validation_ground_truth.txt", truth);
    folder.Write("kit/meta.mat", mat);
    return ErrorOf([&] { ReadDevkit(folder / "kit"); });
  };
  const std::string good = MakeMat(folder, kRows);
  ExpectError(read("3\n9\n", good), ExitCode::kData, {"line 2", "\"9\"", "3 class numbers"});
  ExpectError(read("3\n4\n", good), ExitCode::kData, {"line 2", "\"4\""});  // not a leaf
  ExpectError(read("3\ncat\n", good), ExitCode::kData, {"line 2", "cat"});
  ExpectError(read(kTruthText, "not a MAT file"), ExitCode::kData, {"meta.mat"});
  ExpectError(read(kTruthText, std::string(4096, 'x')), ExitCode::kData, {"meta.mat"});
  ExpectError(read(kTruthText, good.substr(0, 128)), ExitCode::kData, {"synsets"});
  ExpectError(read(kTruthText, MakeMat(folder, kRows, "OTHER")), ExitCode::kData, {"_ID"});
  ExpectError(read(kTruthText, MakeMat(folder, {{1, "n01", 0}, {1, "n02", 0}})), ExitCode::kData,
              {"twice"});
  ExpectError(read(kTruthText, MakeMat(folder, {{1, "n01", 0}, {2, "n01", 0}})), ExitCode::kData,
              {"n01", "twice"});
  ExpectError(read(kTruthText, MakeMat(folder, {{1, "n01", 2}})), ExitCode::kData,
              {"without children"});

  ExpectError(ErrorOf([&] { ReadDevkit(folder / "none"); }), ExitCode::kData, {"none"});
  folder.Write("empty/readme.txt", "x");
  ExpectError(ErrorOf([&] { ReadDevkit(folder / "empty"); }), ExitCode::kData, {"ground_truth"});
  folder.Write("half/a_validation_ground_truth.txt", kTruthText);
  ExpectError(ErrorOf([&] { ReadDevkit(folder / "half"); }), ExitCode::kData, {"meta.mat"});
}

// Sizes are claims: none is believed before anything is allocated.
TEST(Devkit, RefusesAMatFileThatClaimsMoreThanItHolds) {
  TempFolder folder;
  const std::string good = MakeMat(folder, kRows, "ILSVRC2012_ID", false);
  // Behind the header of 128 bytes, a tag of 8, flags of 16 and another tag.
  constexpr size_t kRowsAt = 160;
  const size_t names_at = good.find("ILSVRC2012_ID"), wnid_at = good.find("n02119789");
  ASSERT_EQ(good[kRowsAt], static_cast<char>(kRows.size()));
  const auto refused = [&](size_t at, std::string_view number) {
    std::string damaged = good;
    damaged.replace(at, number.size(), number);
    return ErrorOf([&] { ReadSynsets({damaged.begin(), damaged.end()}, "meta.mat"); });
  };
  constexpr std::string_view kHuge = "\xF0\xFF\xFF\x7F";
  ExpectError(refused(kRowsAt, kHuge), ExitCode::kData, {"meta.mat", "2147483632 synsets of 4"});
  ExpectError(refused(names_at - 4, kHuge), ExitCode::kData, {"meta.mat", "2147483632 bytes in"});
  ExpectError(refused(names_at - 12, kHuge), ExitCode::kData, {"meta.mat", "names of fields"});
  ExpectError(refused(wnid_at - 4, kHuge), ExitCode::kData, {"meta.mat", "2147483632 bytes in"});
}

TEST(Devkit, RefusalsHoldNoControlCharactersOfTheFile) {
  TempFolder folder;
  std::string mat = MakeMat(folder, kRows, "ILSVRC2012_ID", false);
  mat[mat.find("ILSVRC2012_ID") + 6] = '\n';
  mat[mat.find("WNID")] = 'X';
  ExpectError(ErrorOf([&] {
                ReadSynsets({mat.begin(), mat.end()}, "meta.mat");
              }),
              ExitCode::kData, {"synset 1", "ILSVRC\\x0a012_ID"});
}

// A MAT file with any byte changed is read or refused.
TEST(Devkit, SurvivesADamagedMatFile) {
  TempFolder folder;
  const std::string good = MakeMat(folder, kRows, "ILSVRC2012_ID", false);
  for (size_t at = 0; at < good.size(); at += 7) {
    std::string damaged = good;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x11);
    try {
      ReadSynsets({damaged.begin(), damaged.end()}, "meta.mat");
    } catch (const Error& error) {
      ASSERT_EQ(error.exit_code(), ExitCode::kData) << error.what();
    }
  }
}

TEST(Devkit, GivesTheValidationTarItsClasses) {
  TempFolder folder;
  folder.Write("kit/a_validation_ground_truth.txt", kTruthText);
  folder.Write("kit/meta.mat", MakeMat(folder, kRows));
  TarMaker tar;
  for (const int number : {4, 2, 5, 1, 3}) {  // official archives are not in order either
    tar.Add(fmt::format("ILSVRC2012_val_{:08}.JPEG", number), fmt::format("image {}", number));
  }
  const std::string path = folder.Write("val.tar", tar.Finish());
  const auto open = [&](const std::string& location, const std::string& devkit) {
    return OpenDataset(location, {.devkit = devkit, .index_folder = folder / "index"},
                       testing::QuietLog());
  };
  const auto dataset = open(path, folder / "kit");
  ASSERT_EQ(dataset->size(), 5);
  EXPECT_EQ(dataset->classes(), kWnids);
  EncodedSample sample;
  for (int64_t i = 0; i < 5; ++i) {
    dataset->Read(i, sample);
    const std::string text(sample.bytes.begin(), sample.bytes.end());
    const int number = text.back() - '0';
    EXPECT_EQ(dataset->Label(i), kLabels[static_cast<size_t>(number - 1)]);
    EXPECT_EQ(dataset->Name(i),
              fmt::format("{}/ILSVRC2012_val_{:08}.JPEG",
                          kWnids[static_cast<size_t>(dataset->Label(i))], number));
    // The same as when the images were sorted into class folders.
    folder.Write("sorted/" + dataset->Name(i), text);
    folder.Write("loose/" + std::string(dataset->Name(i).substr(10)), text);
  }
  const auto sorted = open(folder / "sorted", ""), loose = open(folder / "loose", folder / "kit");
  for (int64_t i = 0; i < 5; ++i) {
    EXPECT_EQ(sorted->Name(i), dataset->Name(i));
    EXPECT_EQ(sorted->Label(i), dataset->Label(i));
    EXPECT_EQ(loose->Name(i), dataset->Name(i));
    EncodedSample loose_sample;
    dataset->Read(i, sample);
    loose->Read(i, loose_sample);
    EXPECT_EQ(loose_sample.bytes, sample.bytes);
  }

  ExpectError(ErrorOf([&] { open(path, ""); }), ExitCode::kData, {"--devkit"});
  folder.Write("kit/a_validation_ground_truth.txt", "3\n1\n");
  ExpectError(ErrorOf([&] { open(path, folder / "kit"); }), ExitCode::kData,
              {"5 images", "classes of 2"});
}

}  // namespace
}  // namespace convoy
