// The CUDA runtime played by the host: a stream is a thread that works through a queue, device
// memory is host memory. What a device would do later is done later here too, so that a missing
// wait is a data race that the thread sanitizer sees.
#include "core/cuda/runtime.h"

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <filesystem>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/host/clock.h"
#include "layers/cuda/kernels/launch.h"
#include "tests/emulation/recording.h"
#include "tests/emulation/unguarded_memory.h"

namespace convoy::cuda {
namespace {

// From the environment, or by default: how many devices there are, and what each one holds.
int DevicesThere() {
  const char* devices = std::getenv("CONVOY_EMULATED_DEVICES");
  return devices == nullptr ? 2 : std::atoi(devices);
}
int64_t DeviceBytes() {
  const char* megabytes = std::getenv("CONVOY_EMULATED_MEMORY_MB");
  return megabytes == nullptr ? int64_t{64} << 30 : int64_t{1'000'000} * std::atoi(megabytes);
}

// Device N fails, for good, once there is the file $CONVOY_EMULATED_FAULT-N: every later call of
// the host says so, as CUDA's do.
void RequireHealthy(int device) {
  static const char* const file = std::getenv("CONVOY_EMULATED_FAULT");
  if (file == nullptr || !std::filesystem::exists(fmt::format("{}-{}", file, device))) return;
  throw Error(ExitCode::kDevice, fmt::format("the emulated device cuda:{} has failed", device));
}

// By this process, which uses one device.
std::atomic<int64_t> allocated_bytes = 0;

using Work = Recording::Work;

// The recording that this thread makes. CUDA then forbids the thread what would wait for the device
// or touch its memory's addresses.
thread_local std::shared_ptr<Recording> own_recording;

void RefuseWhileRecording(const char* what) {
  if (!own_recording) return;
  own_recording->Spoil(what);
  throw Error(ExitCode::kDevice, fmt::format("while a step is recorded, {}", what));
}

// Reached when the work before it has been done.
class EmulatedEvent final : public Event {
 public:
  explicit EmulatedEvent(int device) : device_(device) {}

  struct State {
    std::mutex mutex;
    std::condition_variable changed;
    bool reached = false;
    Clock::time_point time;
    // Set if the event is a place in a recording, and is never reached.
    std::shared_ptr<Recording> recording;
    Recording::Place place;

    void Reach() {
      const std::lock_guard lock(mutex);
      time = Clock::now();
      reached = true;
      changed.notify_all();
    }
    void Wait() {
      CONVOY_CHECK(!recording, "the host waits for recorded work");
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return reached; });
    }
  };

  void Synchronize() override {
    RefuseWhileRecording("the host waits for an event");
    state->Wait();
    RequireHealthy(device_);
  }
  bool Reached() override {
    RefuseWhileRecording("the host asks for an event");
    RequireHealthy(device_);
    const std::lock_guard lock(state->mutex);
    return state->reached;
  }
  double SecondsSince(const Event& earlier) const override {
    const auto& other = static_cast<const EmulatedEvent&>(earlier);
    return std::chrono::duration<double>(state->time - other.state->time).count();
  }

  const std::shared_ptr<State> state = std::make_shared<State>();

 private:
  int device_;
};

class EmulatedStream final : public Stream {
 public:
  explicit EmulatedStream(int device)
      : device_{DeviceKind::kCuda, device}, thread_([this] { RunQueue(); }) {
    const std::lock_guard lock(streams_mutex_);
    streams_.insert(this);
  }
  ~EmulatedStream() override {
    {
      const std::lock_guard lock(streams_mutex_);
      streams_.erase(this);
    }
    {
      const std::lock_guard lock(mutex_);
      ends_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  Device device() const override { return device_; }
  void* native_handle() const override { return const_cast<EmulatedStream*>(this); }

  void Add(Work work) {
    RequireHealthy(device_.index);
    if (IsRecording()) return recording_->Add(this, std::move(work));
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back(std::move(work));
      ++queued_;
    }
    changed_.notify_all();
  }
  std::unique_ptr<Event> Record() override {
    auto event = std::make_unique<EmulatedEvent>(device_.index);
    if (IsRecording()) {
      event->state->recording = recording_;
      event->state->place = recording_->PlaceOf(this);
    } else {
      Add([state = event->state] { state->Reach(); });
    }
    return event;
  }
  void WaitFor(Event& event) override {
    const auto state = static_cast<EmulatedEvent&>(event).state;
    if (state->recording) {
      CONVOY_CHECK(!state->recording->ended(), "a stream waits for work that was recorded before");
      CONVOY_CHECK(!IsRecording() || recording_ == state->recording, "two recordings meet");
      recording_ = state->recording;  // this stream takes part from here on
      recording_->WaitFor(this, state->place);
    } else {
      CONVOY_CHECK(!IsRecording(), "a stream that is recorded waits for one that takes no part");
      Add([state] { state->Wait(); });
    }
  }
  void Synchronize() override {
    RefuseWhileRecording("the host waits for a stream");
    CONVOY_CHECK(!IsRecording(), "the host waits for recorded work");
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return done_ == queued_; });
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
    RequireHealthy(device_.index);
  }
  void Copy(void* to, const void* from, int64_t bytes) override {
    Add([to, from, bytes] { HostStream().Copy(to, from, bytes); });
  }

  // Until the work that was queued by now is done.
  static void WaitForAll(int device) {
    const std::lock_guard streams_lock(streams_mutex_);
    for (EmulatedStream* stream : streams_) {
      if (stream->device_.index != device) continue;
      std::unique_lock lock(stream->mutex_);
      const int64_t queued = stream->queued_;
      stream->changed_.wait(lock, [&] { return stream->done_ >= queued; });
    }
  }

  bool IsRecording() const { return recording_ && !recording_->ended(); }
  void StartRecording(std::shared_ptr<Recording> recording) { recording_ = std::move(recording); }

 private:
  void RunQueue() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return ends_ || !queue_.empty(); });
      if (queue_.empty()) return;
      const Work work = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      std::exception_ptr failure;
      try {
        work();
      } catch (...) {
        failure = std::current_exception();
      }
      lock.lock();
      ++done_;
      if (!failure_) failure_ = failure;
      changed_.notify_all();
    }
  }

  Device device_;
  std::shared_ptr<Recording> recording_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Work> queue_;
  int64_t queued_ = 0, done_ = 0;
  bool ends_ = false;
  std::exception_ptr failure_;
  std::thread thread_;

  static inline std::mutex streams_mutex_;
  static inline std::set<EmulatedStream*> streams_;
};

EmulatedStream& Of(Stream& stream) { return static_cast<EmulatedStream&>(stream); }

class EmulatedGraph final : public RecordedWork {
 public:
  explicit EmulatedGraph(std::shared_ptr<Recording> recording) : recording_(std::move(recording)) {}
  void Queue(Stream& stream) override {
    Of(stream).Add([recording = recording_] { recording->Replay(); });
  }

 private:
  std::shared_ptr<Recording> recording_;
};

// Host memory that is given back as CUDA does: when the device has done what was queued before.
Buffer FreedBehindWork(int device, Device of, int64_t bytes, std::function<void()> freed) {
  RefuseWhileRecording("memory is allocated");
  auto memory = std::make_shared<Buffer>(AllocateHost(bytes));
  return Buffer(memory->data(), bytes, of, [memory, device, freed](void*) mutable {
    if (own_recording) own_recording->Spoil("memory is freed");
    EmulatedStream::WaitForAll(device);
    memory.reset();
    freed();
  });
}

}  // namespace

void Enqueue(Stream& stream, std::function<void()> work) { Of(stream).Add(std::move(work)); }

int DeviceCount() {
  const int count = DevicesThere();
  if (count > 0) return count;
  throw Error(ExitCode::kDevice, "there is no emulated device", "give --backend cpu");
}

DeviceFacts FactsOf(int device) {
  return {.name = "emulated",
          .uuid = fmt::format("GPU-{}", device),
          .pci_bus_id = fmt::format("0000:{:02x}:00.0", device),
          .compute_capability = 90,
          .multiprocessors = 1,
          .memory_bytes = DeviceBytes()};
}

Versions RuntimeVersions() {
  const char* runtime = std::getenv("CONVOY_EMULATED_RUNTIME");  // as CUDA writes it: 12090 is 12.9
  return {.driver = 13000, .runtime = runtime == nullptr ? 13000 : std::atoi(runtime)};
}

MemoryState MemoryOf(int) { return {DeviceBytes() - allocated_bytes, DeviceBytes()}; }

std::unique_ptr<Stream> MakeStream(int device, Priority) {
  return std::make_unique<EmulatedStream>(device);
}

Buffer AllocateDevice(int device, int64_t bytes) {
  if (bytes > MemoryOf(device).free_bytes) {
    throw Error(ExitCode::kDevice,
                fmt::format("cannot allocate {} bytes of emulated device memory", bytes));
  }
  allocated_bytes += bytes;
  return FreedBehindWork(device, {DeviceKind::kCuda, device}, bytes,
                         [bytes] { allocated_bytes -= bytes; });
}

Buffer AllocatePinned(int device, int64_t bytes) {
  return FreedBehindWork(device, Device{}, bytes, [] {});
}

Buffer AllocateUnguarded(int device, int64_t bytes) {
  RefuseWhileRecording("memory is allocated");
  // Kept for good once it is freed, so that a use of it is wrong and yet harmless.
  static std::mutex mutex;
  static std::vector<Buffer> freed;
  Buffer memory = AllocateHost(bytes);
  void* const data = memory.data();
  const auto own = std::make_shared<Buffer>(std::move(memory));
  return Buffer(data, bytes, {DeviceKind::kCuda, device}, [own](void*) {
    std::memset(own->data(), 0xFF, static_cast<size_t>(own->bytes()));
    const std::lock_guard lock(mutex);
    freed.push_back(std::move(*own));
  });
}

void SetZero(Stream& stream, void* data, int64_t bytes) {
  Of(stream).Add([data, bytes] { std::memset(data, 0, static_cast<size_t>(bytes)); });
}

bool CanAccessPeer(int, int) { return true; }

std::unique_ptr<RecordedWork> Record(Stream& stream, const std::function<void()>& queue_work) {
  EmulatedStream& emulated = Of(stream);
  CONVOY_CHECK(!emulated.IsRecording(), "the stream is being recorded already");
  const auto recording = std::make_shared<Recording>();
  emulated.StartRecording(recording);
  own_recording = recording;
  try {
    queue_work();
  } catch (...) {
    own_recording.reset();
    try {
      recording->End(&emulated);
    } catch (const Error&) {
      // What `queue_work` threw says more.
    }
    throw;
  }
  own_recording.reset();
  recording->End(&emulated);
  return std::make_unique<EmulatedGraph>(recording);
}

bool IsRecording(Stream& stream) { return Of(stream).IsRecording(); }

}  // namespace convoy::cuda
