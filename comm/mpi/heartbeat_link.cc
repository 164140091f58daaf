#include "comm/mpi/heartbeat_link.h"

#include <sys/random.h>

#include <algorithm>
#include <array>

namespace convoy {
namespace {

constexpr size_t kMostAddresses = 8;

template <typename Row>
std::vector<Row> AllGather(const MpiChannel& channel, const Row& own) {
  std::vector<Row> rows(static_cast<size_t>(channel.size()));
  channel.AllGather(&own, sizeof(own), rows.data());
  return rows;
}

}  // namespace

std::unique_ptr<HeartbeatLink> MakeHeartbeatLink(const MpiChannel& channel,
                                                 const std::vector<int>& speakers) {
  HeartbeatKey key{};
  if (channel.rank() == 0) getrandom(key.data(), key.size(), 0);
  channel.Broadcast(key.data(), static_cast<int64_t>(key.size()), 0);

  std::array<uint32_t, kMostAddresses> own_addresses{};
  const std::vector<uint32_t> found = OwnAddresses();
  std::copy_n(found.begin(), std::min(found.size(), own_addresses.size()), own_addresses.begin());
  const auto addresses = AllGather(channel, own_addresses);
  std::vector<uint32_t> others;
  for (const int speaker : speakers) {
    if (speaker == channel.rank()) continue;
    for (const uint32_t address : addresses[static_cast<size_t>(speaker)]) {
      if (address != 0) others.push_back(address);
    }
  }

  const bool speaks = std::find(speakers.begin(), speakers.end(), channel.rank()) != speakers.end();
  auto link = std::make_unique<HeartbeatLink>();
  DatagramAddress own;
  if (speaks) {
    try {
      link->socket = std::make_unique<DatagramSocket>();
      own = {.host = AddressTowards(others), .port = link->socket->port()};
    } catch (const Error&) {
      // Nobody hears this host then, and rank 0 says so.
    }
  }
  const std::vector<DatagramAddress> of_ranks = AllGather(channel, own);
  if (!link->socket) return nullptr;
  link->key = key;
  for (const int speaker : speakers) {
    const DatagramAddress& address = of_ranks[static_cast<size_t>(speaker)];
    if (speaker != channel.rank() && address.host != 0) link->hosts.push_back(address);
  }
  return link;
}

}  // namespace convoy
