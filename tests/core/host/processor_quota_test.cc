#include "core/host/processor_quota.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/temporary_folder.h"

namespace convoy {
namespace {

constexpr char kMountsOfVersion2[] =
    "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
constexpr char kMountsOfVersion1[] =
    "24 20 0:20 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "25 24 0:21 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
    "26 24 0:22 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n";

// A folder that shows what the kernel would.
class Quota : public ::testing::Test {
 protected:
  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = folder_.path() + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  void Version2(const std::string& group) {
    Write("/proc/self/mountinfo", kMountsOfVersion2);
    Write("/proc/self/cgroup", "0::" + group + "\n");
  }
  double Processors() const {
    const auto quota = FindProcessorQuota(folder_.path());
    return quota ? quota->processors : 0;
  }

  const TemporaryFolder folder_;
};

TEST_F(Quota, IsThatOfTheOwnGroup) {
  Version2("/user.slice/job");
  Write("/sys/fs/cgroup/user.slice/job/cpu.max", "150000 100000\n");
  Write("/sys/fs/cgroup/user.slice/other/cpu.max", "10000 100000\n");
  const auto quota = FindProcessorQuota(folder_.path());
  ASSERT_TRUE(quota.has_value());
  EXPECT_EQ(quota->processors, 1.5);
  EXPECT_EQ(quota->path, "/sys/fs/cgroup/user.slice/job");
}

TEST_F(Quota, IsTheSmallestUpToTheTop) {
  Version2("/a/b/c");
  Write("/sys/fs/cgroup/a/b/c/cpu.max", "max 100000\n");
  Write("/sys/fs/cgroup/a/b/cpu.max", "800000 100000\n");
  Write("/sys/fs/cgroup/a/cpu.max", "400000 200000\n");
  EXPECT_EQ(Processors(), 2);
  Write("/sys/fs/cgroup/cpu.max", "50000 100000\n");
  EXPECT_EQ(Processors(), 0.5);
}

TEST_F(Quota, OfVersion1IsReadWhereItsControllerIsMounted) {
  Write("/proc/self/mountinfo", kMountsOfVersion1);
  Write("/proc/self/cgroup", "9:cpuset:/elsewhere\n4:cpu,cpuacct:/job\n0::/\n");
  const std::string cpu = "/sys/fs/cgroup/cpu,cpuacct";
  Write(cpu + "/job/cpu.cfs_quota_us", "-1\n");
  Write(cpu + "/job/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(Processors(), 0);
  Write(cpu + "/job/cpu.cfs_quota_us", "250000\n");
  EXPECT_EQ(Processors(), 2.5);
}

// Without a name space of its own, a container sees the host's name of its group, but only its own
// files.
TEST_F(Quota, OfAContainerIsReadBelowWhatItSees) {
  Write("/proc/self/mountinfo",
        "30 23 0:26 /docker/abc /sys/fs/cgroup/cpu ro master:1 - cgroup cgroup rw,cpu\n");
  Write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000\n");
  Write("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  for (const char* group : {"/docker/abc", "/docker/abc/below", "/elsewhere", "/../../x"}) {
    Write("/proc/self/cgroup", std::string("4:cpu:") + group + "\n");
    EXPECT_EQ(Processors(), 1) << group;
  }
}

TEST_F(Quota, IsReadWhereTheMountPointHasBlanks) {
  Write("/proc/self/mountinfo", "30 23 0:26 / /my\\040groups rw - cgroup2 none rw\n");
  Write("/proc/self/cgroup", "0::/\n");
  Write("/my groups/cpu.max", "300000 100000\n");
  EXPECT_EQ(Processors(), 3);
}

TEST_F(Quota, IsNoneWithoutOneAndInNonsense) {
  EXPECT_FALSE(FindProcessorQuota(folder_.path()).has_value());
  Version2("/a");
  EXPECT_FALSE(FindProcessorQuota(folder_.path()).has_value());
  for (const char* text : {"", "max 100000", "100000", "0 100000", "100000 0", "-5 100000",
                           "1e5 100000", "100000 100000 100000"}) {
    Write("/sys/fs/cgroup/a/cpu.max", text);
    EXPECT_FALSE(FindProcessorQuota(folder_.path()).has_value()) << text;
  }
  Write("/proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2\n\nx - - -\n");
  Write("/proc/self/cgroup", "0:\n:\n\n0::\n");
  EXPECT_FALSE(FindProcessorQuota(folder_.path()).has_value());
}

TEST(WholeProcessors, AreRoundedUpAndAtLeastOne) {
  EXPECT_EQ(WholeProcessors({0.1, "/"}), 1);
  EXPECT_EQ(WholeProcessors({1, "/"}), 1);
  EXPECT_EQ(WholeProcessors({1.5, "/"}), 2);
  EXPECT_EQ(WholeProcessors({1e18, "/"}), 1 << 16);
}

}  // namespace
}  // namespace convoy
