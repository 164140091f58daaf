#include "dataloader/sources/devkit.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

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
// In the devkit's order, which is not that of the wnids; the last class has children.
const std::vector<Row> kRows = {
    {1, "n02119789", 0}, {2, "n02100735", 0}, {3, "n01440764", 0}, {4, "n00001740", 3}};

// Types of elements ("mi") and classes of arrays ("mx") of a MAT file.
constexpr uint32_t kMiInt8 = 1, kMiUint8 = 2, kMiUint16 = 4, kMiInt32 = 5, kMiUint32 = 6;
constexpr uint32_t kMiDouble = 9, kMiInt64 = 12, kMiMatrix = 14, kMiCompressed = 15, kMiUtf8 = 16;
constexpr uint32_t kMxStruct = 2, kMxChar = 4, kMxDouble = 6, kMxUint16 = 11, kMxInt64 = 14;

template <typename T>
std::string BytesOf(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}

std::string Element(uint32_t type, const std::string& data) {
  return BytesOf(type) + BytesOf(static_cast<uint32_t>(data.size())) + data +
         std::string((8 - data.size() % 8) % 8, '\0');
}

// Makes an element of at most four bytes, which lie in the tag.
std::string SmallElement(uint32_t type, const std::string& data) {
  return BytesOf(type | static_cast<uint32_t>(data.size()) << 16) + data +
         std::string(4 - data.size(), '\0');
}

std::string Array(uint32_t array_class, size_t rows, size_t columns, const std::string& name,
                  const std::string& content) {
  return Element(kMiMatrix, Element(kMiUint32, BytesOf(array_class) + BytesOf(uint32_t{0})) +
                                Element(kMiInt32, BytesOf(static_cast<int32_t>(rows)) +
                                                      BytesOf(static_cast<int32_t>(columns))) +
                                Element(kMiInt8, name) + content);
}

std::string NumberAs(uint32_t array_class, const std::string& element) {
  return Array(array_class, 1, 1, "", element);
}

std::string Ascii(const std::string& text) {
  return Array(kMxChar, 1, text.size(), "", Element(kMiUtf8, text));
}

struct MatOptions {
  const char* id_name = "ILSVRC2012_ID";
  bool compressed = true;
  std::function<std::string(int)> id = [](int value) {
    return NumberAs(kMxUint16, Element(kMiUint16, BytesOf(static_cast<uint16_t>(value))));
  };
  std::function<std::string(int)> children = [](int value) {
    return NumberAs(kMxDouble, Element(kMiDouble, BytesOf(double(value))));
  };
  std::function<std::string(const std::string&)> text = Ascii;
};

// Makes a meta.mat as in the devkit: a struct array synsets.
std::string MakeMat(const std::vector<Row>& rows, const MatOptions& options = {}) {
  constexpr size_t kNameBytes = 32;
  std::string names, fields;
  for (std::string name : {options.id_name, "WNID", "words", "num_children"}) {
    name.resize(kNameBytes);
    names += name;
  }
  for (const Row& row : rows) {
    fields += options.id(row.id) + options.text(row.wnid) + options.text("some, words") +
              options.children(row.children);
  }
  std::string synsets = Array(kMxStruct, rows.size(), 1, "synsets",
                              SmallElement(kMiInt32, BytesOf(static_cast<int32_t>(kNameBytes))) +
                                  Element(kMiInt8, names) + fields);
  if (options.compressed) {
    uLongf bytes = compressBound(synsets.size());
    std::string packed(bytes, '\0');
    compress(reinterpret_cast<Bytef*>(packed.data()), &bytes,
             reinterpret_cast<const Bytef*>(synsets.data()), synsets.size());
    packed.resize(bytes);
    synsets = BytesOf(kMiCompressed) + BytesOf(static_cast<uint32_t>(packed.size())) + packed;
  }
  std::string header = "MATLAB 5.0 MAT-file";
  header.resize(124, ' ');
  return header + BytesOf(uint16_t{0x0100}) + "IM" + synsets;
}

std::vector<Synset> SynsetsOf(const std::string& mat) {
  return ReadSynsets({mat.begin(), mat.end()}, "meta.mat");
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
    const std::string mat = MakeMat(kRows, {.compressed = compressed});
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
  folder.Write("kit/meta.mat", MakeMat(kRows, {.id_name = "ILSVRC2010_ID"}));
  ExpectTruth(ReadDevkit(folder / "kit"));
}

// MATLAB stores a number in the smallest type that holds it; SciPy writes integers as int64.
TEST(Devkit, NumbersMayBeOfAnyTypeAndTextOfAnyWidth) {
  const auto small = [](int value) {
    return NumberAs(kMxDouble, SmallElement(kMiUint8, BytesOf(static_cast<uint8_t>(value))));
  };
  const auto wide = [](int value) {
    return NumberAs(kMxInt64, Element(kMiInt64, BytesOf(int64_t{value})));
  };
  const auto utf16 = [](const std::string& text) {
    std::string units;
    for (const char c : text) units += std::string{c, '\0'};
    return Array(kMxChar, 1, text.size(), "", Element(kMiUint16, units));
  };
  for (const MatOptions& options : {MatOptions{.id = small, .children = small, .text = utf16},
                                    MatOptions{.id = wide, .children = wide}}) {
    const std::vector<Synset> synsets = SynsetsOf(MakeMat(kRows, options));
    ASSERT_EQ(synsets.size(), 3u);
    for (size_t i = 0; i < synsets.size(); ++i) {
      EXPECT_EQ(synsets[i].id, kRows[i].id);
      EXPECT_EQ(synsets[i].wnid, kRows[i].wnid);
      EXPECT_EQ(synsets[i].words, "some, words");
    }
  }
}

TEST(Devkit, WordsBecomeUtf8) {
  const auto accented = [](const std::string& text) {
    if (text.starts_with('n')) return Ascii(text);
    return Array(kMxChar, 1, 3, "",
                 Element(kMiUint16, BytesOf(uint16_t{'a'}) + BytesOf(uint16_t{0xEA}) +
                                        BytesOf(uint16_t{0x20AC})));
  };
  EXPECT_EQ(SynsetsOf(MakeMat(kRows, {.text = accented}))[0].words, "a\xC3\xAA\xE2\x82\xAC");
}

TEST(Devkit, RefusesNumbersThatAreNoIds) {
  const auto refused = [](const std::string& id) {
    return ErrorOf([&] { SynsetsOf(MakeMat(kRows, {.id = [&](int) { return id; }})); });
  };
  const auto real = [](double value) {
    return NumberAs(kMxDouble, Element(kMiDouble, BytesOf(value)));
  };
  const std::string two = Array(kMxDouble, 2, 1, "", Element(kMiUint8, std::string(2, '\1')));
  for (const std::string& id :
       {real(1.5), real(1e300), real(std::nan("")), two,
        Array(kMxDouble, 0, 0, "", Element(kMiDouble, "")), Ascii("1"), Element(kMiMatrix, "")}) {
    ExpectError(refused(id), ExitCode::kData, {"meta.mat", "synset 1", "is missing"});
  }
}

TEST(Devkit, WrongContentsAreNamedWithTheirLine) {
  TempFolder folder;
  const auto read = [&](const std::string& truth, const std::string& mat) {
    folder.Write("kit/a_validation_ground_truth.txt", truth);
    folder.Write("kit/meta.mat", mat);
    return ErrorOf([&] { ReadDevkit(folder / "kit"); });
  };
  const std::string good = MakeMat(kRows);
  ExpectError(read("3\n9\n", good), ExitCode::kData, {"line 2", "\"9\"", "3 class numbers"});
  ExpectError(read("3\n4\n", good), ExitCode::kData, {"line 2", "\"4\""});  // not a leaf
  ExpectError(read("3\ncat\n", good), ExitCode::kData, {"line 2", "cat"});
  ExpectError(read(kTruthText, "not a MAT file"), ExitCode::kData, {"meta.mat"});
  ExpectError(read(kTruthText, std::string(4096, 'x')), ExitCode::kData, {"meta.mat"});
  ExpectError(read(kTruthText, good.substr(0, 128)), ExitCode::kData, {"synsets"});
  ExpectError(read(kTruthText, MakeMat(kRows, {.id_name = "OTHER"})), ExitCode::kData, {"_ID"});
  ExpectError(read(kTruthText, MakeMat({{1, "n01", 0}, {1, "n02", 0}})), ExitCode::kData,
              {"twice"});
  ExpectError(read(kTruthText, MakeMat({{1, "n01", 0}, {2, "n01", 0}})), ExitCode::kData,
              {"n01", "twice"});
  ExpectError(read(kTruthText, MakeMat({{1, "n01", 2}})), ExitCode::kData, {"without children"});

  ExpectError(ErrorOf([&] { ReadDevkit(folder / "none"); }), ExitCode::kData, {"none"});
  folder.Write("empty/readme.txt", "x");
  ExpectError(ErrorOf([&] { ReadDevkit(folder / "empty"); }), ExitCode::kData, {"ground_truth"});
  folder.Write("half/a_validation_ground_truth.txt", kTruthText);
  ExpectError(ErrorOf([&] { ReadDevkit(folder / "half"); }), ExitCode::kData, {"meta.mat"});
}

// Sizes are claims: none is believed before anything is allocated.
TEST(Devkit, RefusesAMatFileThatClaimsMoreThanItHolds) {
  const std::string good = MakeMat(kRows, {.compressed = false});
  // After the header of 128 bytes, a tag of 8, flags of 16 and another tag.
  constexpr size_t kRowsAt = 160;
  const size_t names_at = good.find("ILSVRC2012_ID"), wnid_at = good.find("n02119789");
  ASSERT_EQ(good[kRowsAt], static_cast<char>(kRows.size()));
  const auto refused = [&](size_t at, std::string_view number) {
    std::string damaged = good;
    damaged.replace(at, number.size(), number);
    return ErrorOf([&] { SynsetsOf(damaged); });
  };
  constexpr std::string_view kHuge = "\xF0\xFF\xFF\x7F";
  ExpectError(refused(kRowsAt, kHuge), ExitCode::kData, {"meta.mat", "2147483632 synsets of 4"});
  ExpectError(refused(names_at - 4, kHuge), ExitCode::kData, {"meta.mat", "2147483632 bytes in"});
  ExpectError(refused(names_at - 12, kHuge), ExitCode::kData, {"meta.mat", "names of fields"});
  ExpectError(refused(wnid_at - 4, kHuge), ExitCode::kData, {"meta.mat", "2147483632 bytes in"});
}

TEST(Devkit, RefusalsHoldNoControlCharactersOfTheFile) {
  std::string mat = MakeMat(kRows, {.compressed = false});
  mat[mat.find("ILSVRC2012_ID") + 6] = '\n';
  mat[mat.find("WNID")] = 'X';
  ExpectError(ErrorOf([&] { SynsetsOf(mat); }), ExitCode::kData, {"synset 1", "ILSVRC\\x0a012_ID"});
}

// A MAT file with any byte changed is read or refused.
TEST(Devkit, SurvivesADamagedMatFile) {
  const std::string good = MakeMat(kRows, {.compressed = false});
  for (size_t at = 0; at < good.size(); at += 7) {
    std::string damaged = good;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x11);
    try {
      SynsetsOf(damaged);
    } catch (const Error& error) {
      ASSERT_EQ(error.exit_code(), ExitCode::kData) << error.what();
    }
  }
}

TEST(Devkit, GivesTheValidationTarItsClasses) {
  TempFolder folder;
  folder.Write("kit/a_validation_ground_truth.txt", kTruthText);
  folder.Write("kit/meta.mat", MakeMat(kRows));
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
