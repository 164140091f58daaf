// trainer/agreement.h - a fault of one rank becomes everyone's, at a point that all ranks reach.
#pragma once

#include <functional>
#include <string>

#include "comm/comm.h"
#include "core/error.h"

namespace convoy {

// A fault that every rank has been told of. All ranks get it with the same exit code and message,
// so rank `origin` alone should print it, and all may end in an orderly way.
class AgreedError final : public Error {
 public:
  AgreedError(const Error& error, int origin) : Error(error), origin_(origin) {}
  int origin() const { return origin_; }

 private:
  int origin_;
};

// Runs `work` on every rank of the world, then agrees on the outcome: where any rank threw an
// Error, all throw an AgreedError with the exit code and message of the lowest rank that did.
// Collective; `work` may not use the world's side channel unless every rank reaches the same calls.
// A lost peer (kPeer) cannot be agreed upon and is thrown as it is.
void RunTogether(World& world, const std::function<void()>& work);

// `text` of rank `root`, on every rank. Collective.
std::string BroadcastText(World& world, const std::string& text, int root, const char* what);

}  // namespace convoy
