#include "core/host/numa.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "core/text.h"

namespace convoy {
namespace {

// More than any host has: a longer list is damaged.
constexpr int64_t kMostProcessors = 1 << 16;

// Returns the first line of a small file; empty if it cannot be read.
std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

}  // namespace

std::optional<std::vector<int>> ParseProcessorList(std::string_view text) {
  std::vector<int> processors;
  if (Trim(text).empty()) return processors;
  for (const std::string& range : Split(Trim(text), ',')) {
    const std::vector<std::string> ends = Split(range, '-');
    const std::optional<int64_t> first = ParseInteger(ends.front()),
                                 last = ParseInteger(ends.back());
    const int64_t next = processors.empty() ? 0 : processors.back() + 1;
    if (ends.size() > 2 || !first || !last) return {};
    if (*first < next || *last < *first || *last >= kMostProcessors) return {};
    for (int64_t processor = *first; processor <= *last; ++processor) {
      processors.push_back(static_cast<int>(processor));
    }
  }
  return processors;
}

std::string FormatProcessorList(const std::vector<int>& processors) {
  std::string list;
  for (size_t i = 0; i < processors.size(); ++i) {
    const size_t first = i;
    while (i + 1 < processors.size() && processors[i + 1] == processors[i] + 1) ++i;
    if (!list.empty()) list += ",";
    list += i > first ? fmt::format("{}-{}", processors[first], processors[i])
                      : std::to_string(processors[i]);
  }
  return list;
}

std::vector<int> AllowedProcessors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> processors;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return processors;
  for (int processor = 0; processor < CPU_SETSIZE; ++processor) {
    if (CPU_ISSET(static_cast<size_t>(processor), &set)) processors.push_back(processor);
  }
  return processors;
}

int NumaNodeCount(const std::string& sysfs) {
  const auto nodes = ParseProcessorList(FirstLine(sysfs + "/devices/system/node/online"));
  return nodes && !nodes->empty() ? static_cast<int>(nodes->size()) : 1;
}

std::vector<int> ProcessorsOfNode(int node, const std::vector<int>& allowed,
                                  const std::string& sysfs) {
  const auto of_node = ParseProcessorList(
      FirstLine(fmt::format("{}/devices/system/node/node{}/cpulist", sysfs, node)));
  std::vector<int> both;
  if (of_node) {
    std::set_intersection(of_node->begin(), of_node->end(), allowed.begin(), allowed.end(),
                          std::back_inserter(both));
  }
  return both;
}

std::string BindToNumaNode(int node, const std::string& sysfs) {
  if (node < 0 || NumaNodeCount(sysfs) < 2) return {};
  const std::vector<int> allowed = AllowedProcessors();
  const std::vector<int> near = ProcessorsOfNode(node, allowed, sysfs);
  if (near.empty() || near.size() == allowed.size()) return {};
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int processor : near) CPU_SET(static_cast<size_t>(processor), &set);
  return sched_setaffinity(0, sizeof(set), &set) == 0 ? FormatProcessorList(near) : std::string();
}

}  // namespace convoy
