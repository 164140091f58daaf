#include "core/host/numa.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "core/host/thread_pool.h"
#include "tests/temporary_folder.h"

namespace convoy {
namespace {

using Processors = std::vector<int>;

TEST(ProcessorLists, AreReadAsTheKernelWritesThem) {
  EXPECT_EQ(ParseProcessorList("0-3,8\n"), (Processors{0, 1, 2, 3, 8}));
  EXPECT_EQ(ParseProcessorList("5"), Processors{5});
  EXPECT_EQ(ParseProcessorList("0-1,4-5,9"), (Processors{0, 1, 4, 5, 9}));
  EXPECT_EQ(ParseProcessorList(""), Processors());
  EXPECT_EQ(ParseProcessorList("\n"), Processors());
}

TEST(ProcessorLists, OtherTextIsNone) {
  for (const char* text : {"a", "1-", "-1", "1-2-3", "3-1", "1,,2", "2,1", "1,1", "0-3;8",
                           "0-99999999999", "0x1", "1 2"}) {
    EXPECT_FALSE(ParseProcessorList(text)) << text;
  }
}

TEST(ProcessorLists, AreWrittenAsTheyAreRead) {
  for (const char* text : {"", "0", "0-1", "0-3,8", "1,3,5-7"}) {
    EXPECT_EQ(FormatProcessorList(*ParseProcessorList(text)), text);
  }
  EXPECT_EQ(FormatProcessorList(AllowedProcessors()), ProcessorList());
}

// A folder that shows nodes as the kernel's does.
class NumaNodes : public ::testing::Test {
 protected:
  void Write(const std::string& name, const std::string& text) {
    const std::filesystem::path path = sysfs_ + "/devices/system/node/" + name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text << "\n";
  }

  const TemporaryFolder folder_;
  const std::string& sysfs_ = folder_.path();
};

TEST_F(NumaNodes, ProcessorsOfANodeAreThoseThatMayBeUsed) {
  Write("online", "0-1");
  Write("node0/cpulist", "0-3,8-11");
  Write("node1/cpulist", "4-7,12-15");
  EXPECT_EQ(NumaNodeCount(sysfs_), 2);
  EXPECT_EQ(ProcessorsOfNode(1, {0, 4, 5, 15}, sysfs_), (Processors{4, 5, 15}));
  EXPECT_EQ(ProcessorsOfNode(1, {0, 1}, sysfs_), Processors());
  EXPECT_EQ(ProcessorsOfNode(2, {0, 1}, sysfs_), Processors());
  Write("node1/cpulist", "what");
  EXPECT_EQ(ProcessorsOfNode(1, {0, 4}, sysfs_), Processors());
}

TEST_F(NumaNodes, AHostThatDoesNotSayHasOne) {
  EXPECT_EQ(NumaNodeCount(sysfs_), 1);
  Write("online", "what");
  EXPECT_EQ(NumaNodeCount(sysfs_), 1);
}

// Binding is inherited, so a thread of its own tries it, and the other tests stay as they are.
class Binding : public NumaNodes {
 protected:
  struct Result {
    std::string bound;
    Processors allowed, inherited;
  };
  Result Bind(int node) const {
    Result result;
    std::thread([&] {
      result.bound = BindToNumaNode(node, sysfs_);
      result.allowed = AllowedProcessors();
      std::thread([&] { result.inherited = AllowedProcessors(); }).join();
    }).join();
    return result;
  }

  const Processors all_ = AllowedProcessors();
};

TEST_F(Binding, LeavesTheProcessorsOfTheNodeToThreadsThatStartLater) {
  if (all_.size() < 2) GTEST_SKIP() << "this process may use one processor";
  const Processors first{all_.front()};
  Write("online", "0-1");
  Write("node0/cpulist", FormatProcessorList(first));
  Write("node1/cpulist", FormatProcessorList({all_.begin() + 1, all_.end()}));
  const Result result = Bind(0);
  EXPECT_EQ(result.bound, std::to_string(all_.front()));
  EXPECT_EQ(result.allowed, first);
  EXPECT_EQ(result.inherited, first);
  EXPECT_EQ(AllowedProcessors(), all_);
}

TEST_F(Binding, ChangesNothingWithoutAReason) {
  const std::string everything = FormatProcessorList(all_);
  const auto expect_nothing = [&](int node) {
    const Result result = Bind(node);
    EXPECT_EQ(result.bound, "");
    EXPECT_EQ(result.allowed, all_);
  };
  Write("online", "0");
  Write("node0/cpulist", std::to_string(all_.front()));
  expect_nothing(0);  // one node
  Write("online", "0-1");
  Write("node0/cpulist", everything);
  Write("node1/cpulist", "60000");
  expect_nothing(0);   // nothing to leave out
  expect_nothing(1);   // nothing of it may be used
  expect_nothing(2);   // no such node
  expect_nothing(-1);  // not known
}

}  // namespace
}  // namespace convoy
