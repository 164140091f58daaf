// trainer/ranks/agreement.h - a fault of one rank becomes everyone's, at a point that all ranks
// reach.
#pragma once

#include <functional>
#include <string>
#include <type_traits>
#include <vector>

#include "comm/world.h"
#include "core/error.h"

namespace convoy {

// A fault that every rank has been told of. All ranks get it with the same exit code and message,
// so only rank `origin` should print it, and all may end in an orderly way.
class AgreedError final : public Error {
 public:
  AgreedError(const Error& error, int origin) : Error(error), origin_(origin) {}
  int origin() const { return origin_; }

 private:
  int origin_;
};

// Runs `work` on every rank of the world, then agrees on the outcome: if any rank threw an
// Error, all throw an AgreedError with the exit code and message of the lowest rank that did.
// Collective; `work` may not use the world's side channel unless every rank reaches the same calls.
// A lost peer (kPeer) cannot be agreed upon and is thrown as it is.
void RunTogether(World& world, const std::function<void()>& work);

// The same for work that may take a rank longer than the world's deadline: all ranks exchange a
// pulse until everyone is done, so only a rank that is lost is late. A thread of its own does that,
// and calls `on_pulse`, which may be empty, once per pulse. `what` is what messages say of a rank
// that is at it ("opening /data"); empty: this rank has nothing to do. `work` must not use the
// world's side channel.
void RunTogetherWithoutDeadline(World& world, const std::string& what,
                                const std::function<void()>& work,
                                const std::function<void()>& on_pulse = {});

// `text` of rank `root`, on every rank. Collective.
std::string BroadcastText(World& world, const std::string& text, int root, const char* what);

// `own` of every rank, by rank; of any lengths. Collective.
std::vector<std::string> GatherTexts(World& world, const std::string& own, const char* what);

// `own` of every rank, by rank; the Row travels as plain bytes. Collective.
template <typename Row>
std::vector<Row> GatherRows(World& world, Row own, const char* what) {
  static_assert(std::is_trivially_copyable_v<Row>);
  std::vector<Row> rows(static_cast<size_t>(world.size()));
  const Shape bytes{static_cast<int64_t>(sizeof(Row))};
  HostStream stream;
  world.all()
      .AllGather(stream, {&own, DType::kUInt8, bytes},
                 {rows.data(), DType::kUInt8, bytes.Prepend(world.size())}, what)
      .Wait(stream);
  return rows;
}

}  // namespace convoy
