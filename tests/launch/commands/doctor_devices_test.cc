// What doctor says of devices: facts that were made up, and measurements on an emulated device.
#include "launch/commands/doctor_devices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/cuda/runtime.h"
#include "layers/cuda/backend.h"

namespace convoy {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Four ranks on two hosts, a device each; every host's see each other. Nothing is wrong.
std::vector<DeviceReport> FourHealthyRanks() {
  std::vector<DeviceReport> reports;
  for (int rank = 0; rank < 4; ++rank) {
    DeviceReport report{.rank = rank,
                        .host = rank < 2 ? "node1" : "node2",
                        .local_rank = rank % 2,
                        .ordinal = rank % 2,
                        .free_bytes = 139'000'000'000,
                        .driver = 13000,
                        .runtime = 13000,
                        .nccl = 22809,
                        .backend = "cuda: NVIDIA H200, 150 GB, CUDA 13.0, cuDNN 9.19.0",
                        .processors = "0-7",
                        .to_device_gb_per_s = 50,
                        .to_host_gb_per_s = 40};
    for (int i = 0; i < 2; ++i) {
      report.visible.push_back({.name = "NVIDIA H200",
                                .uuid = fmt::format("GPU-{}{}", report.host, i),
                                .pci_bus_id = fmt::format("0000:0{}:00.0", i + 1),
                                .numa_node = i,
                                .compute_capability = 90,
                                .memory_bytes = 150'000'000'000,
                                .reaches = {true, true}});
    }
    report.device = report.visible[static_cast<size_t>(report.ordinal)];
    const int first = rank / 2 * 2;
    report.all_reduces = {{.group = "replicas",
                           .ranks = {rank % 2, rank % 2 + 2},
                           .by_nccl = true,
                           .gb_per_s = 5,  // the network's
                           .elements = 1000},
                          {.group = "towers",
                           .ranks = {first, first + 1},
                           .by_nccl = true,
                           .gb_per_s = 100,
                           .elements = 1000}};
    reports.push_back(report);
  }
  return reports;
}

std::string OnlyComplaint(const std::vector<DeviceReport>& reports) {
  const std::vector<std::string> complaints = DeviceComplaints(reports);
  EXPECT_EQ(complaints.size(), 1u) << testing::PrintToString(complaints);
  if (complaints.size() != 1) return {};
  EXPECT_EQ(complaints[0].find('\n'), std::string::npos);
  return complaints[0];
}

TEST(DeviceComplaints, AreNoneWhereNothingIsWrong) {
  EXPECT_THAT(DeviceComplaints(FourHealthyRanks()), IsEmpty());
  EXPECT_THAT(DeviceComplaints({}), IsEmpty());
}

TEST(DeviceComplaints, NameARankWhoseSumsAreWrong) {
  std::vector<DeviceReport> reports = FourHealthyRanks();
  reports[3].all_reduces[1].wrong_elements = 17;
  EXPECT_THAT(OnlyComplaint(reports),
              AllOf(HasSubstr("all-reduce of towers (ranks 2, 3): 17 of 1,000 elements are wrong "
                              "on rank 3"),
                    HasSubstr("peer-to-peer"), HasSubstr("NCCL_P2P_DISABLE=1")));
  reports[2].all_reduces[1].wrong_elements = 17;  // of one group: still one line
  OnlyComplaint(reports);
}

TEST(DeviceComplaints, BlameNoPeerToPeerPathWhereThereIsNone) {
  std::vector<DeviceReport> reports = FourHealthyRanks();
  for (DeviceReport& report : reports) {
    for (AllReduceReport& group : report.all_reduces) {
      group.by_nccl = false;
      group.gb_per_s = 0.1;
    }
  }
  EXPECT_THAT(DeviceComplaints(reports), IsEmpty());
  reports[0].all_reduces[0].wrong_elements = 1;
  EXPECT_THAT(OnlyComplaint(reports), Not(HasSubstr("peer-to-peer")));
}

TEST(DeviceComplaints, NameASlowGroupOfOneHost) {
  std::vector<DeviceReport> reports = FourHealthyRanks();
  reports[2].all_reduces[1].gb_per_s = 9;  // a quarter of the slower copy is 10
  EXPECT_THAT(OnlyComplaint(reports),
              AllOf(HasSubstr("all-reduce of towers (ranks 2, 3): 9.00 GB/s"), HasSubstr("40.00"),
                    HasSubstr("peer-to-peer path looks broken")));
}

TEST(DeviceComplaints, NameDriversThatDiffer) {
  std::vector<DeviceReport> reports = FourHealthyRanks();
  reports[2].driver = reports[3].driver = 12080;
  EXPECT_THAT(OnlyComplaint(reports),
              HasSubstr("the driver of node1 is for CUDA 13.0, that of node2 for 12.8"));
}

TEST(DeviceComplaints, NameARankFarFromItsDevice) {
  std::vector<DeviceReport> reports = FourHealthyRanks();
  reports[1].far_processors = true;
  EXPECT_THAT(OnlyComplaint(reports), AllOf(HasSubstr("rank 1"), HasSubstr("NUMA node 1 of node1"),
                                            HasSubstr("(0-7)"), HasSubstr("--bind-to none")));
}

TEST(PeerAccess, IsThatOfEveryHost) {
  std::vector<DeviceReport> reports = FourHealthyRanks();
  reports[0].visible[0].reaches = reports[1].visible[0].reaches = {true, false};
  const std::vector<PeerAccess> hosts = PeerAccessOf(reports);
  ASSERT_EQ(hosts.size(), 2u);
  EXPECT_EQ(hosts[0].host, "node1");
  EXPECT_THAT(hosts[0].uuids, ElementsAre("GPU-node10", "GPU-node11"));
  EXPECT_THAT(hosts[0].reaches, ElementsAre(ElementsAre(true, false), ElementsAre(true, true)));
  EXPECT_THAT(hosts[1].reaches, ElementsAre(ElementsAre(true, true), ElementsAre(true, true)));
}

TEST(PeerAccess, IsUnknownBetweenDevicesThatNoRankSeesTogether) {
  std::vector<DeviceReport> reports = FourHealthyRanks();
  reports.resize(2);
  for (DeviceReport& report : reports) {
    report.visible = {report.device};
    report.visible[0].reaches = {true};
  }
  const std::vector<PeerAccess> hosts = PeerAccessOf(reports);
  ASSERT_EQ(hosts.size(), 1u);
  EXPECT_THAT(hosts[0].reaches,
              ElementsAre(ElementsAre(true, std::nullopt), ElementsAre(std::nullopt, true)));
}

TEST(DeviceReports, HaveEverythingInJson) {
  const auto json = nlohmann::json::parse(
      DevicesAsJson(FourHealthyRanks(), "NCCL 2.28.9: every rank has a device of its own"));
  EXPECT_EQ(json.at("collectives"), "NCCL 2.28.9: every rank has a device of its own");
  const auto& rank = json.at("ranks").at(3);
  EXPECT_EQ(rank.at("host"), "node2");
  EXPECT_EQ(rank.at("device").at("uuid"), "GPU-node21");
  EXPECT_EQ(rank.at("device").at("numa_node"), 1);
  EXPECT_EQ(rank.at("free_bytes"), 139'000'000'000);
  EXPECT_EQ(rank.at("nccl"), 22809);
  EXPECT_EQ(rank.at("all_reduces").at(1).at("ranks"), (std::vector<int>{2, 3}));
  EXPECT_EQ(json.at("peer_access").at(1).at("reaches").at(0).at(1), true);
}

TEST(DeviceReports, ArePrintedWithWhatMatters) {
  testing::internal::CaptureStdout();
  PrintDevices(FourHealthyRanks(), "NCCL 2.28.9: every rank has a device of its own");
  const std::string text = testing::internal::GetCapturedStdout();
  for (const char* part :
       {"GPU-node21", "0000:02:00.0", "139 GB of 150 GB", "13.0", "2.28.9", "cuDNN 9.19.0",
        "50.00 GB/s", "40.00 GB/s", "yes", "collectives of device memory: NCCL",
        "on ranks 2, 3 (towers): 100.00 GB/s"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

// --- On an emulated device -----------------------------------------------------------------------

constexpr int64_t kBytes = 1 << 16;

TEST(DeviceMeasurements, CopiesHaveARate) {
  const std::unique_ptr<Backend> backend = cuda::MakeBackend({});
  const CopySpeed speed = MeasureCopies(*backend, *backend->MakeStream(), kBytes);
  EXPECT_GT(speed.to_device_gb_per_s, 0);
  EXPECT_GT(speed.to_host_gb_per_s, 0);
}

// Passes collectives on, and damages what an all-reduce brings back on one rank.
class DamagingGroup final : public Communicator {
 public:
  DamagingGroup(Communicator& group, bool damages) : group_(group), damages_(damages) {}

  int rank() const override { return group_.rank(); }
  int size() const override { return group_.size(); }
  void GiveUp(const std::string& why) override { group_.GiveUp(why); }

 private:
  Request Submit(Stream& stream, const Collective& collective) override {
    group_.Run(stream, collective).Wait(stream);
    if (damages_ && collective.kind == CollectiveKind::kAllReduce) {
      stream.Synchronize();
      const float wrong = -1;
      stream.Copy(collective.receive.data, &wrong, sizeof(wrong));
      stream.Synchronize();
    }
    return {};
  }

  Communicator& group_;
  const bool damages_;
};

TEST(DeviceMeasurements, AnAllReduceIsCheckedOnEveryRank) {
  for (const bool damages : {false, true}) {
    RunAsThreads(3, {}, [&](World& world) {
      const std::unique_ptr<Backend> backend = cuda::MakeBackend({});
      const std::unique_ptr<Stream> stream = backend->MakeStream();
      ProcessGrid grid(
          world, {.replicas = 3, .towers = 1},
          {.device = backend->device(),
           .communicator = CommunicatorKind::kMpi,
           .make_stream = [&] { return backend->MakeStream(); },
           .allocate_pinned = [&](int64_t bytes) { return backend->AllocateStaging(bytes); }});
      DamagingGroup group(grid.Along(Axis::kReplica), damages && world.rank() == 1);
      const AllReduceReport report = MeasureAllReduce(
          *backend, *stream, group, [&](int64_t bytes) { return backend->Allocate(bytes); },
          kBytes);
      EXPECT_EQ(report.elements, kBytes / 4);
      EXPECT_EQ(report.wrong_elements, damages && world.rank() == 1 ? 1 : 0);
      EXPECT_FALSE(report.by_nccl);
      EXPECT_GT(report.gb_per_s, 0);
    });
  }
}

}  // namespace
}  // namespace convoy
