// An NCCL communicator of one rank: every call that a run makes, on the one device that there is.
// tests/gpu runs it on a device; in every test run the emulated device plays NCCL.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "comm/device/nccl.h"
#include "comm/device/nccl_group.h"
#include "comm/host/rank_group.h"
#include "core/cuda/runtime.h"
#include "core/error.h"

namespace convoy {
namespace {

constexpr int64_t kCount = 1 << 20;
constexpr double kDeadlineSeconds = 60;

class OneRankNccl : public ::testing::Test {
 protected:
  OneRankNccl()
      : host_(MakeSelfCommunicator()),
        watchdog_({.deadline_s = kDeadlineSeconds}),
        group_(ConnectedGroup("alone")),
        stream_(cuda::MakeStream(0)),
        communicator_(CommunicatorOf(group_)) {
    data_ = communicator_->AllocateRegistered(kCount * SizeOf(DType::kFloat32));
    result_ = communicator_->AllocateRegistered(kCount * SizeOf(DType::kFloat32));
  }
  // What is registered may go after its communicator, and a recording before it.
  ~OneRankNccl() override {
    recorded_.reset();
    communicator_.reset();
  }

  static std::shared_ptr<NcclGroup> ConnectedGroup(const std::string& name) {
    std::shared_ptr<NcclGroup> group(
        convoy_nccl_make_group({.name = name, .deadline_s = kDeadlineSeconds}));
    NcclId id;
    convoy_nccl_make_id(id);
    group->Connect(id);
    return group;
  }
  std::unique_ptr<Communicator> CommunicatorOf(const std::shared_ptr<NcclGroup>& group) {
    return MakeNcclOf(group, *host_, watchdog_, {.name = group->name(), .step = [] { return 1; }});
  }

  Tensor data() const { return ViewOf(data_, DType::kFloat32, {kCount}); }
  Tensor result() const { return ViewOf(result_, DType::kFloat32, {kCount}); }

  void Write(const Tensor& to, float value) {
    const Buffer staging = cuda::AllocatePinned(0, to.bytes());
    std::fill_n(static_cast<float*>(staging.data()), to.count(), value);
    stream_->Copy(to.data, staging.data(), to.bytes());
    stream_->Synchronize();
  }
  void ExpectAll(const Tensor& tensor, float value) {
    const Buffer staging = cuda::AllocatePinned(0, tensor.bytes());
    stream_->Copy(staging.data(), tensor.data, tensor.bytes());
    stream_->Synchronize();
    const auto* values = static_cast<const float*>(staging.data());
    EXPECT_EQ(std::count(values, values + tensor.count(), value), tensor.count());
  }

  // data -> reduced in place -> result, once as it is and then as a recording.
  void QueueStep() {
    communicator_->AllReduce(*stream_, data(), ReduceOp::kSum, "gradients").Wait(*stream_);
    stream_->Copy(result().data, data().data, data().bytes());
  }
  void Record() {
    QueueStep();
    recorded_ = cuda::Record(*stream_, [this] { QueueStep(); });
  }

  const std::unique_ptr<Communicator> host_;
  Watchdog watchdog_;
  const std::shared_ptr<NcclGroup> group_;
  const std::unique_ptr<Stream> stream_;
  std::unique_ptr<Communicator> communicator_;
  Buffer data_, result_;
  std::unique_ptr<cuda::RecordedWork> recorded_;
};

TEST_F(OneRankNccl, EveryCollectiveKeepsWhatItIsGiven) {
  Communicator& group = *communicator_;
  const Tensor blocks = result().Reshape({1, kCount});
  Write(data(), 3);
  group.AllReduce(*stream_, data(), ReduceOp::kSum, "sum").Wait(*stream_);
  group.Broadcast(*stream_, data(), 0, "broadcast").Wait(*stream_);
  ExpectAll(data(), 3);
  using Call = std::function<Request()>;
  const Call calls[] = {
      [&] { return group.AllGather(*stream_, data(), blocks, "all-gather"); },
      [&] {
        return group.ReduceScatter(*stream_, data().Reshape({1, kCount}), result(), "scatter");
      },
      [&] { return group.Gather(*stream_, data(), blocks, 0, "gather"); },
      [&] {
        return group.Scatter(*stream_, data().Reshape({1, kCount}), result(), 0, "scatter");
      }};
  float value = 4;
  for (const Call& call : calls) {
    Write(data(), value);
    call().Wait(*stream_);
    ExpectAll(result(), value);
    value += 1;
  }
}

TEST_F(OneRankNccl, ARecordingIsQueuedAgainWhileAnotherThreadChecks) {
  Record();
  std::atomic<bool> ends = false;
  std::thread checker([&] {
    while (!ends) EXPECT_NO_THROW(group_->Check());
  });
  for (const float value : {5.0f, 6.0f, 7.0f}) {
    Write(data(), value);
    recorded_->Queue(*stream_);
    ExpectAll(result(), value);
  }
  ends = true;
  checker.join();
}

TEST_F(OneRankNccl, EndsAfterItsRecording) {
  Record();
  recorded_->Queue(*stream_);
  stream_->Synchronize();
  recorded_.reset();
  EXPECT_NO_THROW(communicator_.reset());
}

// NCCL waits for recordings that hold its collectives, and ends once they are gone.
TEST_F(OneRankNccl, AsksToEndBeforeItsRecordingGoes) {
  Record();
  recorded_->Queue(*stream_);
  stream_->Synchronize();
  std::future<void> ended = std::async(std::launch::async, [this] { group_->Finalise(); });
  ended.wait_for(std::chrono::milliseconds(200));
  recorded_.reset();
  EXPECT_NO_THROW(ended.get());
}

TEST_F(OneRankNccl, IsAbortedWithALiveRecording) {
  Record();
  AbortAll({group_}, 2);
  try {
    QueueStep();
    ADD_FAILURE() << "an aborted group takes a collective";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kPeer) << error.what();
  }
}

// A tower's and a replica's group on one device, both recorded.
TEST_F(OneRankNccl, TwoGroupsOfOneDeviceRunBesideEachOther) {
  const auto beside = CommunicatorOf(ConnectedGroup("beside"));
  const auto queue = [&] {
    Request first = communicator_->AllReduce(*stream_, data(), ReduceOp::kSum, "gradients");
    beside->AllReduce(*stream_, result(), ReduceOp::kSum, "activations").Wait(*stream_);
    first.Wait(*stream_);
  };
  Write(data(), 1);
  Write(result(), 2);
  queue();
  recorded_ = cuda::Record(*stream_, queue);
  for (int step = 0; step < 3; ++step) recorded_->Queue(*stream_);
  ExpectAll(data(), 1);
  ExpectAll(result(), 2);
  recorded_.reset();
}

}  // namespace
}  // namespace convoy
