// How much of the link between hosts do collectives use? Sums arrays over all ranks, as data
// parallel training sums its gradients, and gathers and scatters smaller ones, as cuts of a network
// exchange activations; beside the blocking calls of MPI, in turn:
//
//   mpirun -n 2 -H h1:1,h2:1 build/release/bench/host_link [--repetitions 7] [--ordinary]
//
// Prints ms (medians over the repetitions of the slowest rank) and the part of the link that is
// used: what the link allows / ms. What the link allows is measured at the start: two TCP streams
// between the first two hosts, one in each direction at the same time, carry so many MB/s; and
// every byte of an all-reduce must cross the link of a host 2 (hosts - 1) / hosts times each way,
// of the others half of that. Checks every result. MB = 1e6 bytes. --ordinary: in memory that the
// ranks of a host do not share.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <mpi.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <functional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "comm/communicator.h"
#include "comm/host/datagrams.h"
#include "comm/world.h"
#include "core/error.h"
#include "core/host/clock.h"
#include "core/median.h"

namespace convoy {
namespace {

struct Options {
  int repetitions = 7;
  bool ordinary = false;  // memory
};

Options Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--ordinary") options.ordinary = true;
    if (name == "--repetitions" && i + 1 < argc) options.repetitions = std::atoi(argv[i + 1]);
  }
  return options;
}

// --- What the link allows ------------------------------------------------------------------------

// A connected TCP socket, or one that waits for connections.
class Socket {
 public:
  explicit Socket(int descriptor) : descriptor_(descriptor) {
    CONVOY_CHECK(descriptor >= 0, "no TCP connection");
  }
  ~Socket() { close(descriptor_); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int descriptor() const { return descriptor_; }

 private:
  const int descriptor_;
};

void SendAll(int descriptor, int64_t bytes) {
  std::vector<char> block(1 << 20);
  while (bytes > 0) {
    const auto n = static_cast<size_t>(std::min<int64_t>(bytes, 1 << 20));
    const ssize_t sent = send(descriptor, block.data(), n, MSG_NOSIGNAL);
    CONVOY_CHECK(sent > 0, "the TCP connection was lost");
    bytes -= sent;
  }
}

void ReceiveAll(int descriptor, int64_t bytes) {
  std::vector<char> block(1 << 20);
  while (bytes > 0) {
    const auto n = static_cast<size_t>(std::min<int64_t>(bytes, 1 << 20));
    const ssize_t received = recv(descriptor, block.data(), n, 0);
    CONVOY_CHECK(received > 0, "the TCP connection was lost");
    bytes -= received;
  }
}

sockaddr_in AddressOf(uint32_t host, uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = host;
  address.sin_port = port;
  return address;
}

// Sends and receives `bytes` on one connection at the same time; returns bytes per second, of one
// direction.
double Stream(int descriptor, int64_t bytes) {
  SendAll(descriptor, 1);
  ReceiveAll(descriptor, 1);
  const Clock::time_point start = Clock::now();
  std::thread sender([&] { SendAll(descriptor, bytes); });
  ReceiveAll(descriptor, bytes);
  const double seconds = SecondsSince(start);
  sender.join();
  return static_cast<double>(bytes) / seconds;
}

// Returns what a TCP connection between ranks `a` and `b` carries each way, both ways at the same
// time, in bytes per second. Collective over all ranks.
double LinkBytesPerSecond(int own, int a, int b) {
  constexpr int64_t kBytes = 64 << 20;
  std::array<uint32_t, 2> addresses{};  // of a and b
  if (own == a || own == b) {
    const std::vector<uint32_t> found = OwnAddresses();
    addresses[own == a ? 0 : 1] = found.empty() ? htonl(INADDR_LOOPBACK) : found[0];
  }
  MPI_Bcast(&addresses[1], 1, MPI_UINT32_T, b, MPI_COMM_WORLD);
  struct {
    uint32_t host = 0;
    uint16_t port = 0;
  } listens;
  double rate = 0;
  if (own == a) {
    const Socket listener(socket(AF_INET, SOCK_STREAM, 0));
    sockaddr_in address = AddressOf(htonl(INADDR_ANY), 0);
    socklen_t length = sizeof(address);
    CONVOY_CHECK(bind(listener.descriptor(), reinterpret_cast<sockaddr*>(&address), length) == 0 &&
                     listen(listener.descriptor(), 1) == 0,
                 "cannot listen");
    getsockname(listener.descriptor(), reinterpret_cast<sockaddr*>(&address), &length);
    const uint32_t towards = AddressTowards({addresses[1]});
    listens = {towards != 0 ? towards : addresses[0], address.sin_port};
    MPI_Bcast(&listens, sizeof(listens), MPI_BYTE, a, MPI_COMM_WORLD);
    const Socket connection(accept(listener.descriptor(), nullptr, nullptr));
    rate = Stream(connection.descriptor(), kBytes);
  } else {
    MPI_Bcast(&listens, sizeof(listens), MPI_BYTE, a, MPI_COMM_WORLD);
    if (own == b) {
      const Socket connection(socket(AF_INET, SOCK_STREAM, 0));
      const sockaddr_in address = AddressOf(listens.host, listens.port);
      CONVOY_CHECK(connect(connection.descriptor(), reinterpret_cast<const sockaddr*>(&address),
                           sizeof(address)) == 0,
                   "cannot connect to the first rank");
      rate = Stream(connection.descriptor(), kBytes);
    }
  }
  // The slower of the two ends; the other ranks wait here.
  double slowest = own == a || own == b ? rate : 1e30;
  MPI_Allreduce(MPI_IN_PLACE, &slowest, 1, MPI_DOUBLE, MPI_MIN, MPI_COMM_WORLD);
  return slowest;
}

// --- Collectives ---------------------------------------------------------------------------------

struct Case {
  CollectiveKind kind;
  const char* name;
  int64_t count;  // fp32 elements: of the array, or of all blocks
};

constexpr Case kCases[] = {
    {CollectiveKind::kAllReduce, "all-reduce", 20878312},  // fc8 and fc7 of AlexNet
    {CollectiveKind::kAllReduce, "all-reduce", 37752584},  // fc6
    {CollectiveKind::kAllReduce, "all-reduce", 2334720},   // the convolutions
    {CollectiveKind::kAllReduce, "all-reduce", 1},
    {CollectiveKind::kAllGather, "all-gather", 128 * 9216},  // activations of pool5
    {CollectiveKind::kReduceScatter, "reduce-scatter", 128 * 9216},
};

class Bench {
 public:
  Bench(World& world, const Options& options, double link)
      : world_(world), options_(options), link_(link) {}

  // Prints the row of one case. Returns how many elements were wrong.
  int64_t Run(const Case& one) {
    const int64_t ranks = world_.size();
    const int64_t block = one.kind == CollectiveKind::kAllReduce ? one.count : one.count / ranks;
    const int64_t count = one.kind == CollectiveKind::kAllReduce ? block : block * ranks;
    const auto allocate = [&](int64_t elements) {
      const int64_t bytes = std::max<int64_t>(4096, 4 * elements);
      return options_.ordinary ? AllocateHost(bytes) : world_.AllocateShared(bytes);
    };
    const Buffer many = allocate(count), few = allocate(block);
    const Tensor all = ViewOf(many, DType::kFloat32, {count});
    const Tensor own = ViewOf(few, DType::kFloat32, {block});
    HostStream stream;
    const std::function<void()> convoy = [&] {
      Communicator& group = world_.all();
      switch (one.kind) {
        case CollectiveKind::kAllReduce:
          return group.AllReduce(stream, all, ReduceOp::kSum, one.name).Wait(stream);
        case CollectiveKind::kAllGather:
          return group.AllGather(stream, own, all.Reshape({ranks, block}), one.name).Wait(stream);
        default:
          return group.ReduceScatter(stream, all.Reshape({ranks, block}), own, one.name)
              .Wait(stream);
      }
    };
    const std::function<void()> blocking = [&] {
      const int n = static_cast<int>(block);
      switch (one.kind) {
        case CollectiveKind::kAllReduce:
          MPI_Allreduce(MPI_IN_PLACE, all.data, n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
          return;
        case CollectiveKind::kAllGather:
          MPI_Allgather(own.data, n, MPI_FLOAT, all.data, n, MPI_FLOAT, MPI_COMM_WORLD);
          return;
        default:
          MPI_Reduce_scatter_block(all.data, own.data, n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
      }
    };
    Times times[2];
    int64_t wrong = 0;
    // The first one maps memory and makes connections.
    for (int repetition = -1; repetition < options_.repetitions; ++repetition) {
      for (const int which : {0, 1}) {
        Fill(one.kind, all, own);
        Measure(which == 0 ? convoy : blocking, repetition >= 0 ? &times[which] : nullptr);
        wrong += CountWrong(one.kind, all, own);
      }
    }
    Print(one, count, times, wrong);
    return wrong;
  }

 private:
  struct Times {
    std::vector<double> ms, cpu_ms;
  };

  // Small whole numbers, whose sums are exact in fp32.
  float Element(int64_t rank, int64_t i) const { return static_cast<float>((rank + 1) * (i % 61)); }
  float Sum(int64_t i) const {
    const int64_t ranks = world_.size();
    return static_cast<float>(ranks * (ranks + 1) / 2 * (i % 61));
  }

  void Fill(CollectiveKind kind, const Tensor& all, const Tensor& own) const {
    for (int64_t i = 0; i < all.count(); ++i) {
      all.As<float>()[i] = kind == CollectiveKind::kAllGather ? -1 : Element(world_.rank(), i);
    }
    for (int64_t i = 0; i < own.count(); ++i) own.As<float>()[i] = Element(world_.rank(), i);
  }

  int64_t CountWrong(CollectiveKind kind, const Tensor& all, const Tensor& own) const {
    int64_t wrong = 0;
    if (kind == CollectiveKind::kReduceScatter) {
      for (int64_t i = 0; i < own.count(); ++i) {
        wrong += own.As<float>()[i] == Sum(world_.rank() * own.count() + i) ? 0 : 1;
      }
      return wrong;
    }
    for (int64_t i = 0; i < all.count(); ++i) {
      const float expected =
          kind == CollectiveKind::kAllReduce ? Sum(i) : Element(i / own.count(), i % own.count());
      wrong += all.As<float>()[i] == expected ? 0 : 1;
    }
    return wrong;
  }

  void Measure(const std::function<void()>& run, Times* times) const {
    MPI_Barrier(MPI_COMM_WORLD);
    const double cpu = ProcessCpuSeconds();
    const Clock::time_point start = Clock::now();
    run();
    double took[2] = {SecondsSince(start), ProcessCpuSeconds() - cpu};
    MPI_Allreduce(MPI_IN_PLACE, took, 2, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    if (times == nullptr) return;
    times->ms.push_back(1e3 * took[0]);
    times->cpu_ms.push_back(1e3 * took[1]);
  }

  void Print(const Case& one, int64_t count, const Times (&times)[2], int64_t wrong) const {
    const auto& names = world_.hosts();
    const auto hosts =
        static_cast<double>(std::set<std::string>(names.begin(), names.end()).size());
    const double crossings = (one.kind == CollectiveKind::kAllReduce ? 2 : 1) * (hosts - 1) / hosts;
    const double allowed_ms = 1e3 * crossings * 4.0 * static_cast<double>(count) / link_;
    if (world_.rank() != 0) return;
    fmt::print("{:<15}{:>9.3f}{:>12.2f}", one.name, 4e-6 * static_cast<double>(count), allowed_ms);
    for (const Times& side : times) {
      const double ms = Median(side.ms);
      fmt::print("{:>10.2f}{:>7.2f}{:>9.1f}", ms, allowed_ms / ms, Median(side.cpu_ms));
    }
    fmt::print("{:>8}\n", wrong);
    std::fflush(stdout);
  }

  World& world_;
  const Options options_;
  const double link_;  // bytes per second, each way
};

int Run(const Options& options) {
  const std::unique_ptr<World> world = MakeMpiWorld({});
  const std::vector<std::string>& hosts = world->hosts();
  const auto other = std::find_if(hosts.begin(), hosts.end(),
                                  [&](const std::string& host) { return host != hosts[0]; });
  if (other == hosts.end()) {
    throw Error(ExitCode::kUsage, "all ranks are on one host", "start ranks on two hosts or more");
  }
  const int first_of_other = static_cast<int>(other - hosts.begin());
  const double link = LinkBytesPerSecond(world->rank(), 0, first_of_other);
  if (world->rank() == 0) {
    fmt::print("{}; the link carries {:.1f} MB/s each way; {} repetitions, {} memory\n\n",
               world->Describe(), 1e-6 * link, options.repetitions,
               options.ordinary ? "ordinary" : "shared");
    fmt::print("{:<15}{:>9}{:>12}{:>10}{:>7}{:>9}{:>10}{:>7}{:>9}{:>8}\n", "fp32", "MB",
               "allowed ms", "Convoy ms", "part", "CPU ms", "MPI ms", "part", "CPU ms", "wrong");
  }
  Bench bench(*world, options, link);
  int64_t wrong = 0;
  for (const Case& one : kCases) wrong += bench.Run(one);
  return wrong == 0 ? 0 : 1;
}

}  // namespace
}  // namespace convoy

int main(int argc, char** argv) {
  try {
    return convoy::Run(convoy::Parse(argc, argv));
  } catch (const convoy::Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return static_cast<int>(error.exit_code());
  }
}
