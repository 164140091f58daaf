#include "tests/emulation/recording.h"

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace convoy::cuda {

void Recording::Add(const void* stream, Work work) {
  Place& place = places_[stream];
  pieces_.push_back(
      {.stream = stream, .work = std::move(work), .after = std::exchange(place, {pieces_.size()})});
  if (std::find(streams_.begin(), streams_.end(), stream) == streams_.end()) {
    streams_.push_back(stream);
  }
}

Recording::Place Recording::PlaceOf(const void* stream) const {
  const auto found = places_.find(stream);
  return found == places_.end() ? Place() : found->second;
}

void Recording::WaitFor(const void* stream, const Place& place) {
  Place& own = places_[stream];
  if (waits_++ != lost_wait_) own.insert(place.begin(), place.end());
}

void Recording::LoseWait(int index) { lost_wait_ = index; }

void Recording::Spoil(const std::string& why) {
  if (fault_.empty()) fault_ = why;
}

void Recording::End(const void* origin) {
  ended_ = true;
  if (fault_.empty() && !IsAllBefore(PlaceOf(origin))) {
    fault_ = "a stream that took part was not joined";
  }
  if (!fault_.empty()) {
    throw Error(ExitCode::kDevice, fmt::format("the recording is not valid: {}", fault_));
  }
}

bool Recording::IsAllBefore(const Place& place) const {
  std::vector<bool> is_before(pieces_.size());
  for (const size_t piece : place) is_before[piece] = true;
  // A piece comes after earlier calls only.
  for (size_t i = pieces_.size(); i-- > 0;) {
    if (!is_before[i]) return false;
    for (const size_t piece : pieces_[i].after) is_before[piece] = true;
  }
  return true;
}

void Recording::Replay() {
  const size_t turn = replays_++ % (streams_.size() + 1);
  const void* const ahead = turn == 0 ? nullptr : streams_[turn - 1];
  std::vector<size_t> missing(pieces_.size());  // how many pieces each still waits for
  std::vector<std::vector<size_t>> followers(pieces_.size());
  std::set<size_t> ready;
  for (size_t i = 0; i < pieces_.size(); ++i) {
    missing[i] = pieces_[i].after.size();
    for (const size_t piece : pieces_[i].after) followers[piece].push_back(i);
    if (missing[i] == 0) ready.insert(i);
  }
  while (!ready.empty()) {
    auto next = std::find_if(ready.begin(), ready.end(),
                             [&](size_t piece) { return pieces_[piece].stream == ahead; });
    if (next == ready.end()) next = ready.begin();
    const size_t piece = *next;
    ready.erase(next);
    pieces_[piece].work();
    for (const size_t follower : followers[piece]) {
      if (--missing[follower] == 0) ready.insert(follower);
    }
  }
}

}  // namespace convoy::cuda
