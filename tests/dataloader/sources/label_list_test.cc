// Images in one folder with a list of their classes, as Kaggle gives them.
#include "dataloader/sources/label_list.h"

#include <gtest/gtest.h>

#include "dataloader/dataset.h"
#include "dataloader/sources/csv.h"
#include "tests/dataloader/support.h"

namespace convoy {
namespace {

using testing::ErrorOf;
using testing::ExpectError;
using testing::TempFolder;

// --- The parser ----------------------------------------------------------------------------------

std::string Cells(std::string_view text) {
  std::string cells;
  for (const CsvRow& row : ParseCsv(text, "x.csv")) {
    cells += fmt::format("{}:", row.line);
    for (const std::string& cell : row.cells) cells += "[" + cell + "]";
  }
  return cells;
}

TEST(Csv, IsReadAsProgramsWriteIt) {
  EXPECT_EQ(Cells("a,b\nc,d\n"), "1:[a][b]2:[c][d]");
  EXPECT_EQ(Cells("a,b\r\nc,d"), "1:[a][b]2:[c][d]");
  EXPECT_EQ(Cells("\xEF\xBB\xBF\"a\",b\n"), "1:[a][b]");
  EXPECT_EQ(Cells("\"a,\"\"b\"\"\",c"), "1:[a,\"b\"][c]");
  EXPECT_EQ(Cells("\"a\nb\",c\nd,e"), "1:[a\nb][c]3:[d][e]");
  EXPECT_EQ(Cells(" a , b\n\n,\nc,"), "1:[a][b]3:[][]4:[c][]");
  EXPECT_EQ(Cells("a\tb,c\n"), "1:[a][b,c]");
  EXPECT_EQ(Cells("a;b,c\n"), "1:[a][b,c]");
  EXPECT_EQ(Cells(""), "");
  EXPECT_EQ(Cells("\n\r\n"), "");
  ExpectError(ErrorOf([] { ParseCsv("a,b\n\"c,d\n", "x.csv"); }), ExitCode::kData,
              {"x.csv, line 2", "quote"});
}

// --- Data sets -----------------------------------------------------------------------------------

class LabelListTest : public ::testing::Test {
 protected:
  void WriteImages(const std::string& root, const std::vector<std::string>& names) {
    for (const std::string& name : names) {
      folder_.Write(root + "/" + name, testing::MakeJpeg(8, 8, static_cast<uint32_t>(name[0])));
    }
  }
  std::shared_ptr<const Dataset> Open(const std::string& location) {
    return OpenDataset(folder_ / location, {}, testing::QuietLog());
  }
  Error Refused(const std::string& location) {
    return ErrorOf([&] { Open(location); });
  }
  std::string Labels(const std::string& location) {
    const auto dataset = Open(location);
    std::string text;
    EncodedSample sample;
    for (int64_t i = 0; i < dataset->size(); ++i) {
      text += fmt::format("{}={} ", dataset->Name(i), dataset->Label(i));
      dataset->Read(i, sample);
      EXPECT_EQ(std::string(sample.bytes.begin(), sample.bytes.end()),
                testing::ReadFile(dataset->Location(i)));
    }
    return text;
  }
  TempFolder folder_;
};

TEST_F(LabelListTest, GivesLooseImagesTheirClasses) {
  const std::string expected = "cat/b.jpg=0 dog/a.jpg=1 dog/c.png=1 ";
  const std::string list = "id,breed\na,dog\nb.jpg,cat\n\"c\",\"dog\"\n";
  WriteImages("beside", {"a.jpg", "b.jpg", "c.png"});
  folder_.Write("beside/labels.csv", list);
  WriteImages("kaggle/train", {"a.jpg", "b.jpg", "c.png"});
  WriteImages("kaggle/test", {"x.jpg", "y.jpg"});
  folder_.Write("kaggle/labels.csv", list);
  folder_.Write("kaggle/train.csv", list);
  folder_.Write("kaggle/sample_submission.csv", "id,cat,dog\nx,0.5,0.5\ny,0.5,0.5\n");
  WriteImages("images/images", {"a.jpg", "b.jpg", "c.png"});
  folder_.Write("images/list.csv", list);
  for (const char* location : {"beside", "beside:labels.csv", "beside/labels.csv", "kaggle/train",
                               "kaggle/train:labels.csv", "kaggle/train.csv", "images",
                               "images/list.csv", "images:list.csv"}) {
    EXPECT_EQ(Labels(location), expected) << location;
    EXPECT_TRUE(Open(location)->left_out().empty()) << "the list is read: " << location;
  }
  EXPECT_EQ(Labels("kaggle/train:" + (folder_ / "beside/labels.csv")), expected);
  ExpectError(Refused("kaggle/labels.csv"), ExitCode::kData, {"test, train", "which"});
  ExpectError(Refused("beside:other.csv"), ExitCode::kData, {"other.csv"});
}

TEST_F(LabelListTest, NumbersKeepTheirOrder) {
  WriteImages("set", {"a.jpg", "b.jpg", "c.jpg"});
  folder_.Write("set/labels.csv", "image,level\na.jpg,10\nb.jpg,2\nc.jpg,0\n");
  EXPECT_EQ(Open("set")->classes(), (std::vector<std::string>{"00", "02", "10"}));
}

TEST_F(LabelListTest, ColumnsAreFoundByWhatTheyHold) {
  WriteImages("set", {"a.jpg", "b.jpg"});
  const std::string expected = "cat/b.jpg=0 dog/a.jpg=1 ";
  for (const char* list :
       {"a.jpg,dog\nb.jpg,cat\n", "class;file\ndog;train/a.jpg\ncat;train/b.jpg\n",
        "n,path,label,width\n0,a.jpg,dog,8\n1,b.jpg,cat,8\n"}) {
    folder_.Write("set/labels.csv", list);
    EXPECT_EQ(Labels("set"), expected) << list;
  }
  // With two columns of labels, or none, a file is no list; if it was named, that is an error.
  for (const char* list : {"path,label,class\na,dog,1\nb,cat,1\n", "path,x,z\na,1,2\nb,1,2\n",
                           "path,label\nx,dog\n", ""}) {
    folder_.Write("set/labels.csv", list);
    ExpectError(Refused("set"), ExitCode::kData, {"without class folders", "CSV"});
    ExpectError(Refused("set:labels.csv"), ExitCode::kData, {"no list of the 2 images"});
  }
}

TEST_F(LabelListTest, ImagesAndLinesThatDoNotFitAreCounted) {
  WriteImages("set", {"a.jpg", "b.jpg", "c.jpg", "d.jpg"});
  folder_.Write("set/labels.csv", "image,label\na,x\nb,y\na,y\nq,x\nr,x\n");
  ExpectError(
      Refused("set"), ExitCode::kData,
      {"2 images have no line (the first: c.jpg)", "2 lines have no image (the first: line 5, q)",
       "1 line names an image again (the first: line 4, a)"});
  folder_.Write("set/labels.csv", "image,label\na,x\nb,y\nc,\nd,x/y\n");
  ExpectError(Refused("set"), ExitCode::kData, {"2 lines have no label", "line 4, c"});
  folder_.Write("set/labels.csv", "image,label\na,x\nb,y,z\nc,x\nd,x\n");
  ExpectError(Refused("set"), ExitCode::kData, {"line 3", "3 cells, 2 expected"});
  folder_.Write("set/labels.csv", "image,label\na,x\nb,x\nc,x\nd,x\n");
  folder_.Write("set/more.csv", "image,label\na,x\nb,x\nc,x\nd,x\n");
  ExpectError(Refused("set"), ExitCode::kData, {"labels.csv", "more.csv", "set:labels.csv"});
  EXPECT_EQ(Open("set:more.csv")->size(), 4);
}

TEST_F(LabelListTest, AListBesideClassFoldersChangesNothing) {
  WriteImages("set/Cat", {"a.jpg"});
  WriteImages("set/Dog", {"b.jpg"});
  folder_.Write("set/oidv6-train-images-with-labels-with-rotation.csv", "a,b\n");
  folder_.Write("set/labels.csv", "image,label\na,Dog\nb,Cat\n");
  EXPECT_EQ(Labels("set"), "Cat/a.jpg=0 Dog/b.jpg=1 ");
  ExpectError(Refused("set:labels.csv"), ExitCode::kData, {"one folder"});
}

}  // namespace
}  // namespace convoy
