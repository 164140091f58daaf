#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <numeric>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "comm/communicator.h"
#include "comm/host/board_group.h"
#include "comm/host/heartbeat.h"
#include "comm/host/node_memory.h"
#include "comm/host/progress.h"
#include "comm/host/rank_group.h"
#include "comm/host/shared_segment.h"
#include "comm/mpi/exchange_plan.h"
#include "comm/mpi/heartbeat_link.h"
#include "comm/mpi/host_table.h"
#include "comm/mpi/launcher.h"
#include "comm/mpi/mpi_channel.h"
#include "comm/mpi/mpi_group.h"
#include "comm/world.h"
#include "core/hash.h"
#include "core/host/thread_pool.h"

namespace convoy {
namespace {

// Zeroed memory that all ranks of `channel` have mapped; null if one of them cannot reach it.
// Collective over the channel.
std::shared_ptr<void> ShareMemory(const MpiChannel& channel, int64_t bytes) {
  struct Address {
    int32_t process = 0, descriptor = -1;
  } address;
  std::optional<SharedSegment> segment;
  if (channel.rank() == 0) {
    segment = SharedSegment::Create(bytes);
    if (segment) address = {getpid(), segment->descriptor()};
  }
  channel.Broadcast(&address, sizeof(address), 0);
  if (channel.rank() != 0 && address.descriptor >= 0) {
    segment = SharedSegment::Open(address.process, address.descriptor, bytes);
  }
  if (!channel.Agree(segment.has_value())) return nullptr;
  auto owner = std::make_shared<SharedSegment>(std::move(*segment));
  return {owner, owner->data()};
}

// Zeroed memory that only this rank has.
std::shared_ptr<void> OwnMemory(int64_t bytes) {
  auto owner = std::make_shared<Buffer>(AllocateHost(bytes));
  return {owner, owner->data()};
}

// Finds the data of a group's ranks by their places on this host.
class HostPeerMemory final : public PeerMemory {
 public:
  HostPeerMemory(NodeMemory& memory, std::vector<int> local_ranks)
      : memory_(memory), local_ranks_(std::move(local_ranks)) {}
  Exposure Expose(const void* data, int64_t bytes) override { return memory_.Expose(data, bytes); }
  std::byte* Reach(int peer, const Exposure& exposure) override {
    return memory_.Reach(local_ranks_[static_cast<size_t>(peer)], exposure);
  }

 private:
  NodeMemory& memory_;
  const std::vector<int> local_ranks_;
};

// The host and the processors of a rank of the world.
struct Place {
  int32_t node = 0;  // the lowest world rank of its host
  int32_t local_rank = 0;
  uint64_t processors = 0;  // hash of the affinity mask
  char host[256] = {};
};

class MpiWorld final : public World {
 public:
  explicit MpiWorld(const WorldOptions& options)
      : options_(options), channel_(library_.World()), node_channel_(channel_.SplitByHost()) {
    CheckLauncher([](const char* name) { return std::getenv(name); }, size(), library_.name());
    GatherPlaces();
    MakeNodeMemory();
    if (size() > 1) StartHeartbeat();
    all_ = MakeGroup("all", channel_.Split(0, rank()));
  }

  ~MpiWorld() override {
    // Peers may wait for this rank, or be gone: MPI_Finalize would wait for ever.
    if (std::uncaught_exceptions() > exceptions_) library_.Shut();
    all_.reset();
    if (!library_.shut()) Farewell();
    heartbeat_.reset();
  }

  int rank() const override { return channel_.rank(); }
  int size() const override { return channel_.size(); }
  const std::vector<std::string>& hosts() const override { return hosts_; }
  int local_rank() const override { return node_channel_.rank(); }
  int local_size() const override { return node_channel_.size(); }
  int processor_sharers() const override { return processor_sharers_; }

  std::string Describe() const override {
    const size_t nodes = Nodes().size();
    return fmt::format("{}, {}, {} {} on {} {}", library_.standard(), library_.name(), size(),
                       size() == 1 ? "rank" : "ranks", nodes, nodes == 1 ? "host" : "hosts");
  }

  Communicator& all() override { return *all_; }

  std::unique_ptr<Communicator> Split(const std::string& name, int colour, int key) override {
    CONVOY_CHECK(colour >= 0, "colour {} of group {}", colour, name);
    // MPI's own split has no deadline.
    all_->Barrier("split of the world");
    return MakeGroup(name, channel_.Split(colour, key));
  }

  Buffer AllocateShared(int64_t bytes) override {
    return shares_memory_ && local_size() > 1 ? node_memory_->Allocate(bytes) : AllocateHost(bytes);
  }

  void SetStep(int64_t step) override { own_progress().SetStep(step); }
  int64_t step() const override { return own_progress().step.load(std::memory_order_relaxed); }
  void SetWork(const std::string& what) override { own_progress().SetWork(what); }

  std::string DescribeProgress() override { return convoy::Describe(AllPeers()); }

  void Abort(ExitCode exit_code) override { library_.Abort(static_cast<int>(exit_code)); }

 private:
  RankProgress& own_progress() const { return node_memory_->progress(local_rank()); }

  const Place& PlaceOf(int world_rank) const { return places_[static_cast<size_t>(world_rank)]; }
  bool IsHere(int world_rank) const { return PlaceOf(world_rank).node == PlaceOf(rank()).node; }

  // Null: nothing can be known of that rank.
  RankProgress* ProgressOf(int world_rank) const {
    if (world_rank == rank()) return &own_progress();
    if (!IsHere(world_rank)) return remote_progress_.get() + world_rank;
    return sees_node_ ? &node_memory_->progress(PlaceOf(world_rank).local_rank) : nullptr;
  }

  Peer PeerOf(int world_rank) const {
    return {.world_rank = world_rank,
            .host = hosts_[static_cast<size_t>(world_rank)],
            .progress = ProgressOf(world_rank),
            .is_remote = !IsHere(world_rank)};
  }

  // Returns the lowest rank of every host.
  std::set<int> Nodes() const {
    std::set<int> nodes;
    for (const Place& place : places_) nodes.insert(place.node);
    return nodes;
  }

  std::vector<Peer> AllPeers() const {
    std::vector<Peer> peers(static_cast<size_t>(size()));
    for (int r = 0; r < size(); ++r) peers[static_cast<size_t>(r)] = PeerOf(r);
    return peers;
  }

  void GatherPlaces() {
    Place own{.node = rank(), .local_rank = local_rank(), .processors = Hash64(ProcessorList())};
    node_channel_.Broadcast(&own.node, sizeof(own.node), 0);
    const std::string host = HostName();
    std::memcpy(own.host, host.data(), std::min(host.size(), sizeof(own.host) - 1));
    places_.resize(static_cast<size_t>(size()));
    channel_.AllGather(&own, sizeof(own), places_.data());
    processor_sharers_ = 0;
    for (const Place& place : places_) {
      hosts_.emplace_back(place.host);
      processor_sharers_ += place.node == own.node && place.processors == own.processors;
    }
  }

  void MakeNodeMemory() {
    const int64_t bytes = NodeMemory::TableBytes(local_size());
    std::shared_ptr<void> table = ShareMemory(node_channel_, bytes);
    sees_node_ = table != nullptr;
    if (!sees_node_) table = OwnMemory(bytes);
    shares_memory_ = sees_node_ && options_.shared_memory == SharedMemory::kAuto;
    node_memory_.emplace(table, local_rank(), local_size());
    // What the heartbeats of other hosts say; written by one rank of this host. Places of ranks of
    // this host are not used.
    const int64_t remote_bytes = int64_t{size()} * static_cast<int64_t>(sizeof(RankProgress));
    std::shared_ptr<void> remote;
    if (sees_node_) remote = ShareMemory(node_channel_, remote_bytes);
    if (!remote) remote = OwnMemory(remote_bytes);
    remote_progress_ = std::static_pointer_cast<RankProgress>(remote);
    // Nobody looks at a rank that has not entered itself.
    node_channel_.Agree(true);
  }

  void StartHeartbeat() {
    const std::set<int> nodes = Nodes();
    std::unique_ptr<HeartbeatLink> link;
    if (nodes.size() > 1) link = MakeHeartbeatLink(channel_, {nodes.begin(), nodes.end()});
    HeartbeatOptions options{.silence_s = options_.silence_s};
    if (rank() == 0) options.report = options_.report;
    if (options_.on_loss) {
      options.on_loss = [this](const Error& error) { options_.on_loss(error, *this); };
    }
    heartbeat_.emplace(AllPeers(), rank(), std::move(link), std::move(options));
  }

  // Returns the lowest world rank of those that move their data through the same memory as this
  // one.
  int DataHost() const {
    if (!shares_memory_) return rank();
    const int ranks = options_.ranks_per_host > 0 ? options_.ranks_per_host : local_size();
    int lowest = 0;
    while (!IsHere(lowest) || PlaceOf(lowest).local_rank / ranks != local_rank() / ranks) ++lowest;
    return lowest;
  }

  // Returns the hosts of the ranks of a channel, by DataHost. Collective over the channel.
  HostTable HostsOf(const MpiChannel& channel, HostLink link) const {
    const int own = DataHost();
    std::vector<int> hosts(static_cast<size_t>(channel.size()));
    channel.AllGather(&own, sizeof(own), hosts.data());
    return HostTable(hosts, link);
  }

  // Returns the hosts of a group in which every rank moves its data by itself.
  static HostTable OneRankAHost(int ranks, HostLink link) {
    std::vector<int> hosts(static_cast<size_t>(ranks));
    std::iota(hosts.begin(), hosts.end(), 0);
    return HostTable(hosts, link);
  }

  // Collective over the channel.
  std::unique_ptr<Communicator> MakeGroup(const std::string& name, MpiChannel channel) {
    const int size = channel.size();
    if (size == 1) return MakeSelfCommunicator();
    const int own = rank();
    std::vector<int> members(static_cast<size_t>(size));
    channel.AllGather(&own, sizeof(own), members.data());
    std::vector<Peer> peers;
    for (const int member : members) peers.push_back(PeerOf(member));
    const bool on_one_machine =
        options_.ranks_per_host == 0 &&
        std::all_of(members.begin(), members.end(), [this](int member) { return IsHere(member); });
    const HostLink link = on_one_machine ? HostLink::kMachine : HostLink::kNetwork;
    const HostTable hosts = HostsOf(channel, link);
    std::optional<HostParts> host = ShareHost(name, channel, hosts, members);
    // All ranks of the group must see the hosts in the same way.
    const bool shares =
        channel.Agree(host || hosts.RanksOf(hosts.HostOf(channel.rank())).size() == 1);
    MpiGroupParts parts{.name = name,
                        .library = &library_,
                        .channel = std::move(channel),
                        .peers = peers,
                        .hosts = OneRankAHost(size, link)};
    std::unique_ptr<RankGroup> group;
    if (shares && hosts.hosts() == 1) {
      group = MakeBoardGroup({.meeting = std::move(host->meeting),
                              .memory = std::move(host->memory),
                              .fallback = MakeMpiGroup(std::move(parts))});
    } else {
      if (shares) {
        parts.hosts = hosts;
        parts.host = std::move(host);
      }
      group = MakeMpiGroup(std::move(parts));
    }
    return MakeQueue(std::move(group), name, options_, own_progress());
  }

  // Returns what the group's ranks of this host share; nothing if there is one, or one cannot reach
  // the others' memory. `members`: the world ranks of the group. Collective over the channel.
  std::optional<HostParts> ShareHost(const std::string& name, const MpiChannel& channel,
                                     const HostTable& hosts, const std::vector<int>& members) {
    const int own_host = hosts.HostOf(channel.rank());
    const MpiChannel host_channel = channel.Split(own_host, channel.rank());
    const int ranks = host_channel.size();
    if (ranks == 1) return std::nullopt;
    const int64_t scratch_bytes =
        hosts.hosts() == 1 ? 0 : ranks * ExchangePlan::ScratchBytes(hosts);
    const std::shared_ptr<void> board =
        ShareMemory(host_channel, BoardBytes(ranks) + scratch_bytes);
    if (!board) return std::nullopt;
    HostParts parts{.meeting = {.name = name,
                                .rank = host_channel.rank(),
                                .board = board,
                                .leave = LeaveDuringTransfer::kYes},
                    .scratch = {board, static_cast<std::byte*>(board.get()) + BoardBytes(ranks)}};
    std::vector<int> local_ranks;
    for (const int group_rank : hosts.RanksOf(own_host)) {
      const int member = members[static_cast<size_t>(group_rank)];
      parts.meeting.peers.push_back(PeerOf(member));
      local_ranks.push_back(PlaceOf(member).local_rank);
    }
    parts.memory = std::make_unique<HostPeerMemory>(*node_memory_, std::move(local_ranks));
    return parts;
  }

  // MPI_Finalize spins until all ranks are there: waits for them without using a core.
  void Farewell() {
    try {
      MakeMpiGroup({.name = "all",
                    .library = &library_,
                    .channel = channel_.Split(0, rank()),
                    .peers = AllPeers(),
                    .hosts = OneRankAHost(size(), HostLink::kNetwork)})
          ->Run({.kind = CollectiveKind::kBarrier, .what = "end of the run"});
    } catch (const Error&) {
      library_.Shut();
    }
  }

  const WorldOptions options_;
  const int exceptions_ = std::uncaught_exceptions();
  MpiLibrary library_;
  MpiChannel channel_, node_channel_;
  std::vector<Place> places_;
  std::vector<std::string> hosts_;
  int processor_sharers_ = 1;
  bool sees_node_ = false;      // the ranks of this host share a table
  bool shares_memory_ = false;  // and move their data through shared memory
  std::optional<NodeMemory> node_memory_;
  std::shared_ptr<RankProgress> remote_progress_;  // by world rank
  std::unique_ptr<Communicator> all_;
  std::optional<Heartbeat> heartbeat_;  // last: it uses the others
};

}  // namespace

std::unique_ptr<World> MakeMpiWorld(const WorldOptions& options) {
  StartAloneInSlurmShell();
  return std::make_unique<MpiWorld>(options);
}

}  // namespace convoy
