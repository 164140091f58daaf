#include "comm/device/staged.h"

#include <algorithm>
#include <array>
#include <exception>
#include <optional>
#include <utility>

#include "comm/host/job_queue.h"
#include "comm/host/rank_group.h"

namespace convoy {
namespace {

// Returns the bytes of a piece that is copied to the host and reduced there while the next one is
// copied. Every rank of a host, or every host, moves a part of it: so pieces grow with their
// number.
int64_t StagedPieceBytes(int ranks) {
  constexpr int64_t kOfARankBytes = 2 << 20;
  constexpr int64_t kLargestBytes = 16 << 20;
  return std::min(kLargestBytes, kOfARankBytes * ranks);
}

// Copies and host collectives. Used by one thread.
class Stager {
 public:
  Stager(Communicator& host, const StagedOptions& options)
      : host_(host), allocate_(options.allocate_pinned), stream_(options.make_stream()) {}

  ~Stager() { AwaitCopies(); }

  // Copies use memory that may go away.
  void AwaitCopies() {
    try {
      stream_->Synchronize();
    } catch (const Error&) {
      // The device has failed; whoever waits for its work is told.
    }
  }

  // Returns when the host's part is done. The event: the result is in device memory. `ready`: the
  // caller's work that comes first; null if there is none.
  std::unique_ptr<Event> Run(const Collective& collective, Event* ready) {
    if (ready != nullptr) stream_->WaitFor(*ready);
    const CollectiveTraits traits = collective.traits();
    if (!traits.moves_data) {
      host_.Run(host_stream_, collective).Wait(host_stream_);
    } else if (traits.blocks == RankBlocks::kNone) {
      RunInPieces(collective);
    } else {
      RunWhole(collective);
    }
    return stream_->Record();
  }

 private:
  // Returns the first elements of buffer `index` in the shape of `like`.
  Tensor Staged(size_t index, const Tensor& like) {
    Buffer& buffer = buffers_[index];
    const int64_t bytes = std::max(kAlignmentBytes, like.bytes());
    if (buffer.bytes() < bytes) {
      stream_->Synchronize();
      buffer = {};
      buffer = allocate_(bytes);
    }
    return {buffer.data(), like.dtype, like.shape};
  }

  // Two buffers in turn: while the host works in one, the other is emptied and filled.
  void RunInPieces(const Collective& collective) {
    const CollectiveTraits traits = collective.traits();
    const bool is_root = collective.root == host_.rank();
    const bool gives = !traits.has_root || is_root, gets = !traits.has_root || !is_root;
    const Tensor& data = collective.receive;
    const int64_t piece = StagedPieceBytes(host_.size()) / SizeOf(data.dtype);
    const int64_t count = data.count();
    const auto part = [&](int64_t begin) {
      return data.Range(begin, std::min(piece, count - begin));
    };
    const auto fill = [&](int64_t begin) {
      const Tensor from = part(begin);
      const auto index = static_cast<size_t>(begin / piece % 2);
      const Tensor to = Staged(index, from);
      if (gives) stream_->Copy(to.data, from.data, from.bytes());
      filled_[index] = stream_->Record();
    };
    fill(0);
    for (int64_t begin = 0; begin == 0 || begin < count; begin += piece) {
      if (begin + piece < count) fill(begin + piece);
      const auto index = static_cast<size_t>(begin / piece % 2);
      const Tensor to = part(begin);
      const Tensor staged = Staged(index, to);
      filled_[index]->Synchronize();
      RunOnHost(collective, {}, staged);
      if (gets) stream_->Copy(to.data, staged.data, to.bytes());
    }
  }

  void RunWhole(const Collective& collective) {
    const Tensor send = Staged(0, collective.send);
    const Tensor receive = Staged(1, collective.receive);
    if (collective.send) stream_->Copy(send.data, collective.send.data, send.bytes());
    // The copies that were queued before from and to these buffers are done then, too.
    stream_->Record()->Synchronize();
    RunOnHost(collective, send, receive);
    if (collective.receive) stream_->Copy(collective.receive.data, receive.data, receive.bytes());
  }

  // The host's collective on `send` and `receive`.
  void RunOnHost(Collective collective, const Tensor& send, const Tensor& receive) {
    collective.send = send;
    collective.receive = receive;
    host_.Run(host_stream_, collective).Wait(host_stream_);
  }

  Communicator& host_;
  const Allocator allocate_;
  HostStream host_stream_;
  std::array<Buffer, 2> buffers_;
  std::array<std::unique_ptr<Event>, 2> filled_;
  std::unique_ptr<Stream> stream_;  // last: destroyed before the memory that it copies
};

struct StagedJob {
  std::unique_ptr<Event> ready;   // null for host streams
  std::unique_ptr<Event> copied;  // set if the job has not failed
  Job job;
};

class StagedCommunicator final : public Communicator {
 public:
  StagedCommunicator(std::unique_ptr<Communicator> host, const StagedOptions& options)
      : host_(std::move(host)), queue_("staged " + options.name) {
    RunNow([&] { stager_.emplace(*host_, options); });
  }
  ~StagedCommunicator() override {
    RunNow([this] { stager_.reset(); });
  }

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  void GiveUp(const std::string& why) override { host_->GiveUp(why); }

 private:
  Request Submit(Stream& stream, const Collective& collective) override;

  // Runs `work` on the thread, whose device the stream's maker sets.
  void RunNow(const std::function<void()>& work) { queue_.Push(work).get(); }

  void Run(const Collective& collective, StagedJob& staged) {
    if (failure_) std::rethrow_exception(failure_);
    try {
      staged.copied = stager_->Run(collective, staged.ready.get());
    } catch (...) {
      failure_ = std::current_exception();
      stager_->AwaitCopies();
      throw;
    }
  }

  const std::unique_ptr<Communicator> host_;
  // Both used by the queue's thread only.
  std::optional<Stager> stager_;
  std::exception_ptr failure_;  // of an earlier collective
  JobQueue queue_;
};

class StagedOperation final : public Request::Operation {
 public:
  StagedOperation(StagedCommunicator& communicator, std::shared_ptr<StagedJob> staged)
      : communicator_(communicator),
        staged_(std::move(staged)),
        exceptions_(std::uncaught_exceptions()) {}

  // The tensors are in use until the copy back is done.
  ~StagedOperation() override {
    if (waited_) return;
    try {
      if (std::uncaught_exceptions() > exceptions_) {
        communicator_.GiveUp("this rank ended by an error");
      }
      HostStream stream;
      Wait(stream);
    } catch (...) {
      // Nobody asked for the result. The next collective of this group fails as well.
    }
  }

  void Wait(Stream& stream) override {
    waited_ = true;
    staged_->job.get();
    if (stream.device().kind == DeviceKind::kCpu) {
      staged_->copied->Synchronize();
    } else {
      stream.WaitFor(*staged_->copied);
    }
  }
  bool Done() override { return IsDone(staged_->job); }

 private:
  StagedCommunicator& communicator_;
  const std::shared_ptr<StagedJob> staged_;
  const int exceptions_;
  bool waited_ = false;
};

Request StagedCommunicator::Submit(Stream& stream, const Collective& collective) {
  auto staged = std::make_shared<StagedJob>();
  if (stream.device().kind != DeviceKind::kCpu) staged->ready = stream.Record();
  // The queue drops the function once it has run, and with it this share of `staged`.
  staged->job = queue_.Push([this, collective, staged] { Run(collective, *staged); });
  return Request(std::make_unique<StagedOperation>(*this, std::move(staged)));
}

}  // namespace

std::unique_ptr<Communicator> MakeStaged(std::unique_ptr<Communicator> host,
                                         const StagedOptions& options) {
  return std::make_unique<StagedCommunicator>(std::move(host), options);
}

}  // namespace convoy
