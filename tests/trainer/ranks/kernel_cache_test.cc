#include "trainer/ranks/kernel_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <thread>

#include "core/host/files.h"
#include "tests/temporary_folder.h"

namespace convoy {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

constexpr char kFirst[] = "NVIDIA H200, 150 GB, CUDA 13.0, cuDNN 9.19.0, cuBLASLt 13.1";
constexpr char kOlder[] = "NVIDIA H200, 150 GB, CUDA 13.0, cuDNN 9.18.0, cuBLASLt 13.1";

const KernelChoices kSome{{"conv1 forward", "engine 3"}, {"fc6 forward", "algorithm 7"}};
const KernelChoices kOthers{{"conv2 forward", "engine 5"}};

class KernelCacheTest : public ::testing::Test {
 protected:
  // What making and using a cache says on standard error.
  template <typename Work>
  std::string LinesOf(Work&& work) {
    testing::internal::CaptureStderr();
    work();
    return testing::internal::GetCapturedStderr();
  }
  KernelCache Open(const std::string& platform = kFirst) { return {Folder(), platform, log_}; }
  std::string Folder() const { return folder_.Path("cache"); }

  TemporaryFolder folder_;
  Log log_;
};

TEST_F(KernelCacheTest, KeepsWhatWasAddedForDevicesOfTheKind) {
  EXPECT_EQ(LinesOf([&] {
              KernelCache cache = Open();
              EXPECT_THAT(cache.choices(), IsEmpty());
              cache.Add(kSome);
              EXPECT_EQ(cache.choices(), kSome);
              EXPECT_EQ(Open().choices(), kSome);
              EXPECT_THAT(Open(kOlder).choices(), IsEmpty());
            }),
            "");
}

TEST_F(KernelCacheTest, AddsToWhatAnotherRunHasWrittenMeanwhile) {
  KernelCache one = Open(), other = Open();
  one.Add(kSome);
  other.Add(kOthers);
  KernelChoices all = kSome;
  all.insert(kOthers.begin(), kOthers.end());
  EXPECT_EQ(Open().choices(), all);
  other.Add({{"fc6 forward", "algorithm 8"}});
  EXPECT_EQ(Open().choices().at("fc6 forward"), "algorithm 8");
}

TEST_F(KernelCacheTest, WritesNothingWhereThereIsNothingNew) {
  KernelCache cache = Open();
  cache.Add({});
  EXPECT_FALSE(PathExists(cache.path()));
  cache.Add(kSome);
  std::filesystem::remove(cache.path());
  cache.Add(kSome);
  EXPECT_FALSE(PathExists(cache.path()));
}

TEST_F(KernelCacheTest, ADamagedOrForeignFileIsIgnoredWithAWarningAndReplaced) {
  const std::string path = Open().path();
  Open().Add(kSome);
  const std::string whole = ReadText(path, ExitCode::kDisk);
  const std::string foreign = "{\"format\": \"another\", \"device\": \"\", \"choices\": {}}";
  for (const std::string& text :
       {std::string(), whole.substr(0, whole.size() / 2), std::string("\x80\x81{"), foreign,
        std::string("[1, 2]"), std::string("{}"),
        fmt::format("{}{}", whole.substr(0, whole.find("\"choices\"")),
                    "\"choices\": {\"a\": 1}}")}) {
    WriteText(path, text);
    std::string lines = LinesOf([&] { EXPECT_THAT(Open().choices(), IsEmpty()); });
    EXPECT_THAT(lines, HasSubstr("warning: kernels are chosen anew: " + path)) << text;
    EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 1) << lines;
    lines = LinesOf([&] { Open().Add(kOthers); });
    EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 1) << lines;
    EXPECT_EQ(Open().choices(), kOthers);
  }
}

TEST_F(KernelCacheTest, AFolderThatCannotBeWrittenIsOneWarning) {
  WriteText(Folder(), "a file, not a folder");
  const std::string lines = LinesOf([&] {
    KernelCache cache = Open();
    cache.Add(kSome);
    cache.Add(kOthers);
    EXPECT_EQ(cache.choices().size(), 3u);
  });
  EXPECT_THAT(lines, HasSubstr("warning: chosen kernels are not kept"));
  EXPECT_THAT(lines, HasSubstr("--kernel-cache none"));
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 1) << lines;
}

TEST_F(KernelCacheTest, WithoutAFolderNothingIsKept) {
  KernelCache none, named_none("", kFirst, log_);
  for (KernelCache* cache : {&none, &named_none}) {
    cache->Add(kSome);
    EXPECT_EQ(cache->choices(), kSome);
    EXPECT_EQ(cache->path(), "");
  }
}

TEST_F(KernelCacheTest, SeveralRunsAtOnceNeverTearIt) {
  const std::string lines = LinesOf([&] {
    std::vector<std::thread> runs;
    for (int run = 0; run < 4; ++run) {
      runs.emplace_back([&, run] {
        for (int i = 0; i < 20; ++i) Open().Add({{fmt::format("product {} {}", run, i), "kernel"}});
      });
    }
    for (std::thread& run : runs) run.join();
  });
  EXPECT_EQ(lines, "");
  EXPECT_FALSE(Open().choices().empty());
}

// Sets variables of the environment, and puts them back.
class Environment {
 public:
  ~Environment() {
    for (const auto& [name, value] : before_) setenv(name.c_str(), value.c_str(), 1);
  }
  void Set(const char* name, const char* value) {
    const char* old = getenv(name);
    before_.try_emplace(name, old == nullptr ? "" : old);
    value == nullptr ? unsetenv(name) : setenv(name, value, 1);
  }

 private:
  std::map<std::string, std::string> before_;
};

TEST(KernelCacheFolder, IsTheUsersUnlessAnotherIsGiven) {
  Environment environment;
  environment.Set("HOME", "/home/ada");
  environment.Set("XDG_CACHE_HOME", nullptr);
  EXPECT_EQ(KernelCacheFolder(""), "/home/ada/.cache/convoy");
  EXPECT_EQ(KernelCacheFolder("kept/here"), "kept/here");
  EXPECT_EQ(KernelCacheFolder("none"), "");
  environment.Set("XDG_CACHE_HOME", "/fast/cache");
  EXPECT_EQ(KernelCacheFolder(""), "/fast/cache/convoy");
  environment.Set("XDG_CACHE_HOME", "relative");
  EXPECT_EQ(KernelCacheFolder(""), "/home/ada/.cache/convoy");
  environment.Set("HOME", nullptr);
  EXPECT_EQ(KernelCacheFolder(""), "");
}

}  // namespace
}  // namespace convoy
