#include "trainer/agreement.h"

#include <optional>
#include <string>

namespace convoy {

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

  const auto broadcast = [&](const Tensor& data) {
    HostStream stream;
    world.all().Broadcast(stream, data, origin, "agreement on a fault").Wait(stream);
  };
  // Exit code, then message and hint, each with its length before it.
  int32_t header[3] = {};
  std::string message, hint;
  if (world.rank() == origin) {
    message = own->message();
    hint = own->hint();
    header[0] = static_cast<int32_t>(own->exit_code());
    header[1] = static_cast<int32_t>(message.size());
    header[2] = static_cast<int32_t>(hint.size());
  }
  broadcast({header, DType::kInt32, Shape{3}});
  message.resize(static_cast<size_t>(header[1]));
  hint.resize(static_cast<size_t>(header[2]));
  broadcast({message.data(), DType::kUInt8, Shape{header[1]}});
  broadcast({hint.data(), DType::kUInt8, Shape{header[2]}});
  throw AgreedError(Error(static_cast<ExitCode>(header[0]), message, hint), origin);
}

}  // namespace convoy
