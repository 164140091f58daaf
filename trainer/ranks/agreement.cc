#include "trainer/ranks/agreement.h"

#include <atomic>
#include <chrono>
#include <exception>
#include <optional>
#include <string>
#include <thread>

#include "core/host/thread_pool.h"

namespace convoy {
namespace {

// Between two of RunTogetherWithoutDeadline.
constexpr std::chrono::milliseconds kPulse{20};

bool AnyoneWorks(World& world, bool works) {
  int32_t any = works ? 1 : 0;
  HostStream stream;
  world.all()
      .AllReduce(stream, {&any, DType::kInt32, Shape{1}}, ReduceOp::kMax, "pulse")
      .Wait(stream);
  return any != 0;
}

}  // namespace

void RunTogether(World& world, const std::function<void()>& work) {
  std::optional<Error> own;
  try {
    work();
  } catch (const AgreedError&) {
    throw;  // already agreed upon further in
  } catch (const Error& error) {
    if (error.exit_code() == ExitCode::kPeer) throw;
    own = error;
  }
  const auto all_reduce_minimum = [&](int32_t value) {
    HostStream stream;
    world.all()
        .AllReduce(stream, {&value, DType::kInt32, Shape{1}}, ReduceOp::kMin, "agreement")
        .Wait(stream);
    return value;
  };
  const int origin = all_reduce_minimum(own ? world.rank() : world.size());
  if (origin == world.size()) return;

  const bool is_origin = world.rank() == origin;
  constexpr const char* kWhat = "agreement on a fault";
  auto code = static_cast<int32_t>(is_origin ? own->exit_code() : ExitCode::kDone);
  HostStream stream;
  world.all().Broadcast(stream, {&code, DType::kInt32, Shape{1}}, origin, kWhat).Wait(stream);
  const std::string message =
      BroadcastText(world, is_origin ? own->message() : std::string(), origin, kWhat);
  const std::string hint =
      BroadcastText(world, is_origin ? own->hint() : std::string(), origin, kWhat);
  throw AgreedError(Error(static_cast<ExitCode>(code), message, hint), origin);
}

void RunTogetherWithoutDeadline(World& world, const std::string& what,
                                const std::function<void()>& work,
                                const std::function<void()>& on_pulse) {
  if (world.size() == 1) return RunTogether(world, work);
  RunTogether(world, [&] {
    std::atomic<bool> works = true;
    std::exception_ptr lost_peer, failure;
    std::thread pulse([&] {
      NameThisThread("pulse");
      try {
        while (AnyoneWorks(world, works)) {
          if (on_pulse) on_pulse();
          std::this_thread::sleep_for(kPulse);
        }
      } catch (...) {
        lost_peer = std::current_exception();
      }
    });
    try {
      const WorkScope scope(world, what);
      work();
    } catch (...) {
      failure = std::current_exception();
    }
    works = false;
    pulse.join();
    for (const std::exception_ptr& error : {lost_peer, failure}) {
      if (error) std::rethrow_exception(error);
    }
  });
}

std::string BroadcastText(World& world, const std::string& text, int root, const char* what) {
  HostStream stream;
  auto length = static_cast<int64_t>(text.size());
  world.all().Broadcast(stream, {&length, DType::kInt64, Shape{1}}, root, what).Wait(stream);
  std::string result = text;
  result.resize(static_cast<size_t>(length));
  world.all()
      .Broadcast(stream, {result.data(), DType::kUInt8, Shape{length}}, root, what)
      .Wait(stream);
  return result;
}

std::vector<std::string> GatherTexts(World& world, const std::string& own, const char* what) {
  std::vector<std::string> texts;
  texts.reserve(static_cast<size_t>(world.size()));
  for (int rank = 0; rank < world.size(); ++rank) {
    texts.push_back(BroadcastText(world, own, rank, what));
  }
  return texts;
}

}  // namespace convoy
