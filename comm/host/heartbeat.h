// comm/host/heartbeat.h - tells ranks that are late from ranks that are lost.
//
// Every rank of a world over several processes has a thread that beats twice a second. Ranks of one
// host see each other's beats in shared memory. Of every host, one rank sends the beats of its host
// to all other hosts as datagrams, with what each rank does; it copies what arrives from there into
// memory that all ranks of its own host read. A rank whose beats stay the same for `silence_s` is
// lost: it is marked so, collectives that wait for it soon fail and name it, and the other hosts
// are told. A rank that beats is alive, however long its work takes.
//
// Silence is counted in the watcher's own beats. So a job that is suspended as a whole and goes on
// later loses nobody. A rank that was never heard is not watched: if a firewall stops datagrams,
// only the deadline of collectives finds a lost host.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "comm/host/datagrams.h"
#include "comm/host/heartbeat_message.h"
#include "comm/host/progress.h"
#include "core/error.h"

namespace convoy {

// Counts how long a rank has been silent, in the watcher's beats.
class SilenceCounter {
 public:
  // `beats`: of the watched rank, now; 0: it was never heard. Called once per beat of the watcher.
  // Returns for how many of these it has been silent.
  int Count(uint32_t beats);

 private:
  uint32_t last_beats_ = 0;
  int silent_ = 0;
};

// One line about who keeps the others waiting, and with what: "waiting for rank 2 (node17): writing
// a checkpoint, for 30 s". Nothing unless somebody has been waiting for at least ten seconds.
std::optional<std::string> DescribeWait(const std::vector<Peer>& peers);

// How one rank of a host reaches the other hosts.
struct HeartbeatLink {
  std::unique_ptr<DatagramSocket> socket;
  HeartbeatKey key{};
  std::vector<DatagramAddress> hosts;  // the others
};

struct HeartbeatOptions {
  // A rank that was silent for so long is lost, in seconds; 0: nobody is ever called lost.
  double silence_s = 20;
  // Takes lines about ranks that the others wait for; empty: nobody is told. Called by the
  // heartbeat's thread.
  std::function<void(const std::string& line)> report;
  // Called by the heartbeat's thread if this rank is still there some seconds after another one was
  // lost: nothing can reach it in its wait. The process ends with kPeer after that.
  std::function<void(const Error&)> on_loss;
};

class Heartbeat {
 public:
  // `ranks` are all ranks of the world in order, this one is `own`. `link` is for one rank of every
  // host; null for the others, and if there is one host. Progress must outlive the heartbeat.
  Heartbeat(std::vector<Peer> ranks, int own, std::unique_ptr<HeartbeatLink> link,
            HeartbeatOptions options);
  ~Heartbeat();
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;

 private:
  void Work();
  void Beat();
  void CountOwn();
  void Send();
  // Takes what arrives until the next beat is due. False: the heartbeat ends.
  bool ReceiveUntilNextBeat();
  void Take(const HeartbeatMessage& message);
  void Judge();
  void Report();
  void EndIfLeftBehind();
  const Peer* FirstLost() const;

  const std::vector<Peer> ranks_;
  const int own_;
  const std::unique_ptr<HeartbeatLink> link_;
  const HeartbeatOptions options_;
  std::vector<SilenceCounter> silence_;
  int64_t beats_ = 0, reported_at_ = 0, lost_since_ = -1;
  bool said_unheard_ = false;
  int stop_descriptor_ = -1;  // readable when the heartbeat ends
  std::thread thread_;        // last: it uses the others
};

}  // namespace convoy
