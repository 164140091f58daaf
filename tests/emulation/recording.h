// tests/emulation/recording.h - recorded work as CUDA keeps it in a graph: pieces of work, and
// which others each must come after.
//
// Nothing else orders them. A replay in the order of the calls would hide a missing dependency, so
// replays differ: one runs in that order, the next lets the first stream run as far ahead of the
// others as it may, the next the second, and so on.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace convoy::cuda {

// Built by one thread; replayed by any, one at a time.
class Recording {
 public:
  using Work = std::function<void()>;
  // What an event stands for: the pieces after which it is reached.
  using Place = std::set<size_t>;

  // `stream` only tells streams apart. Work comes after what its stream recorded or waited for so
  // far.
  void Add(const void* stream, Work work);
  Place PlaceOf(const void* stream) const;
  void WaitFor(const void* stream, const Place& place);

  // Something was done that CUDA does not allow while work is recorded: End() will throw.
  void Spoil(const std::string& why);
  // Planted by tests: the wait number `index` of every later recording, counted from 0 in the order
  // of the calls, orders nothing. Negative: none is lost.
  static void LoseWait(int index);

  // From here on nothing is recorded. Throws (kDevice) as CUDA does if the recording was spoiled,
  // or if `origin` has not waited for some of the work.
  void End(const void* origin);
  bool ended() const { return ended_; }

  // Runs every piece.
  void Replay();

 private:
  struct Piece {
    const void* stream;
    Work work;
    Place after;
  };
  // Returns whether everything lies at or before `place`.
  bool IsAllBefore(const Place& place) const;

  static inline std::atomic<int> lost_wait_ = -1;

  std::vector<Piece> pieces_;            // in the order of the calls
  std::map<const void*, Place> places_;  // of the streams that take part
  std::vector<const void*> streams_;     // those that do something, in the order of the calls
  int waits_ = 0;
  std::string fault_;
  bool ended_ = false;
  std::atomic<size_t> replays_ = 0;
};

}  // namespace convoy::cuda
