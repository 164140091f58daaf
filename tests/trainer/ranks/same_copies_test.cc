#include "trainer/ranks/same_copies.h"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <set>
#include <string>

#include "core/host/files.h"
#include "tests/temporary_folder.h"
#include "trainer/ranks/agreement.h"

namespace convoy {
namespace {

void Write(const TemporaryFolder& folder, const std::string& name, const std::string& text) {
  MakeFolder(std::filesystem::path(folder.Path(name)).parent_path().string());
  WriteText(folder.Path(name), text);
}

// What four ranks say, of which those in `others` have the copy "other" and the rest "first".
std::string Compare(const TemporaryFolder& folder, const std::set<int>& others,
                    bool only_first_compares = false) {
  std::atomic<int> told{0};
  std::string message;
  RunAsThreads(4, {}, [&](World& world) {
    Log log(LogLevel::kSilent);
    const auto dataset =
        OpenDataset(folder.Path(others.contains(world.rank()) ? "other" : "first"), {}, log);
    try {
      RequireSameCopies(*dataset, "/data/set", !only_first_compares || world.rank() == 0, world);
    } catch (const AgreedError& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kData);
      ++told;
      if (world.rank() == 0) message = error.message();
    }
  });
  EXPECT_EQ(told, message.empty() ? 0 : 4) << "all ranks or none";
  return message;
}

class SameCopiesTest : public ::testing::Test {
 protected:
  SameCopiesTest() {
    for (const char* name : {"cat/1.png", "cat/2.png", "dog/1.png"}) {
      for (const char* copy : {"first/", "other/"})
        Write(folder_, std::string(copy) + name, "12345");
    }
  }
  void ExpectMessage(const std::string& message, const std::set<std::string>& words) {
    for (const std::string& word : words) {
      EXPECT_NE(message.find(word), std::string::npos) << word << " in: " << message;
    }
  }
  TemporaryFolder folder_;
};

TEST_F(SameCopiesTest, EqualOnesGoOn) { EXPECT_EQ(Compare(folder_, {1, 3}), ""); }

TEST_F(SameCopiesTest, AMissingImageIsToldByCounts) {
  std::filesystem::remove(folder_.Path("other/cat/2.png"));
  const std::string message = Compare(folder_, {2, 3});
  ExpectMessage(message, {"the ranks' copies of /data/set differ", "rank 0 (", ") 3 images",
                          "rank 2 (", "rank 3 (", ") 2 images"});
  EXPECT_EQ(message.find("rank 1"), std::string::npos) << message;
}

TEST_F(SameCopiesTest, AnotherNameOrSizeIsToldByAnExample) {
  Write(folder_, "other/dog/1.png", "1234567");
  ExpectMessage(Compare(folder_, {1}),
                {"equal counts, but other contents", "rank 0 has dog/1.png of 5 bytes",
                 "rank 1 dog/1.png of 7 bytes"});
  std::filesystem::rename(folder_.Path("other/cat/2.png"), folder_.Path("other/cat/3.png"));
  ExpectMessage(Compare(folder_, {3}), {"other names or labels", "cat/2.png", "cat/3.png"});
}

TEST_F(SameCopiesTest, RanksThatShareACopyWithAnotherDoNotCompareIt) {
  std::filesystem::remove(folder_.Path("other/cat/2.png"));
  EXPECT_EQ(Compare(folder_, {1, 2, 3}, /*only_first_compares=*/true), "");
}

}  // namespace
}  // namespace convoy
