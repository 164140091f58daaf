#include "comm/mpi/host_table.h"

#include <algorithm>
#include <map>

namespace convoy {

HostTable::HostTable(const std::vector<int>& host_of_rank, HostLink link) : link_(link) {
  std::map<int, int> numbers;  // of the hosts, by what the caller calls them
  for (size_t rank = 0; rank < host_of_rank.size(); ++rank) {
    const auto [entry, is_new] = numbers.emplace(host_of_rank[rank], hosts());
    if (is_new) ranks_.emplace_back();
    std::vector<int>& ranks = ranks_[static_cast<size_t>(entry->second)];
    host_of_.push_back(entry->second);
    place_of_.push_back(static_cast<int>(ranks.size()));
    ranks.push_back(static_cast<int>(rank));
  }
  const auto by_size = [](const auto& a, const auto& b) { return a.size() < b.size(); };
  const auto [fewest, most] = std::minmax_element(ranks_.begin(), ranks_.end(), by_size);
  if (fewest == ranks_.end()) return;
  fewest_ = static_cast<int>(fewest->size());
  most_ = static_cast<int>(most->size());
}

}  // namespace convoy
