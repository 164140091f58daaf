// comm/mpi/host_table.h - which ranks of a group lie on which host.
#pragma once

#include <cstddef>
#include <vector>

namespace convoy {

// What lies between the hosts. Ranks of one machine that cannot reach each other's memory count as
// hosts of one rank each: MPI copies their data within the machine.
enum class HostLink { kNetwork, kMachine };

// Hosts are numbered in the order of their lowest ranks. The place of a rank is its number among
// the ranks of its host.
class HostTable {
 public:
  // `host_of_rank`: for every rank, any number that is the same for the ranks of one host.
  HostTable(const std::vector<int>& host_of_rank, HostLink link);

  HostLink link() const { return link_; }
  int ranks() const { return static_cast<int>(host_of_.size()); }
  int hosts() const { return static_cast<int>(ranks_.size()); }
  int HostOf(int rank) const { return host_of_[static_cast<size_t>(rank)]; }
  int PlaceOf(int rank) const { return place_of_[static_cast<size_t>(rank)]; }
  // Returns the ranks of a host in ascending order.
  const std::vector<int>& RanksOf(int host) const { return ranks_[static_cast<size_t>(host)]; }
  // Returns how many ranks the host with the fewest has, and that with the most.
  int fewest() const { return fewest_; }
  int most() const { return most_; }
  // Returns the rank of `host` that exchanges with `owner`, a rank of another host.
  int ServerOf(int owner, int host) const {
    const std::vector<int>& there = RanksOf(host);
    return there[static_cast<size_t>(PlaceOf(owner)) % there.size()];
  }

 private:
  HostLink link_;
  std::vector<int> host_of_, place_of_;
  std::vector<std::vector<int>> ranks_;
  int fewest_ = 0, most_ = 0;
};

}  // namespace convoy
