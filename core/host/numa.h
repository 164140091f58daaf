// core/host/numa.h - the NUMA nodes of this host, and running near one of them.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace convoy {

// The processors of a list as the kernel writes it ("0-3,8"), ascending. An empty list has none;
// nothing where the text is no such list.
std::optional<std::vector<int>> ParseProcessorList(std::string_view text);
// The inverse, of ascending processors.
std::string FormatProcessorList(const std::vector<int>& processors);

// Processors that the calling thread may run on (its affinity mask), ascending; none where the
// system does not say.
std::vector<int> AllowedProcessors();

// NUMA nodes that are online, by `sysfs`, where the kernel shows itself; 1 where it does not say.
int NumaNodeCount(const std::string& sysfs = "/sys");
// Those of `allowed` that belong to `node`. None where there is no such node.
std::vector<int> ProcessorsOfNode(int node, const std::vector<int>& allowed,
                                  const std::string& sysfs = "/sys");

// Binds the calling thread, and what it starts from here on, to those processors of `node` that it
// may use: what it touches first then lies in the memory of that node. Says to which. Changes
// nothing, and gives nothing, where the host has one node, where it may use none of the node's
// processors or no others, and where the system refuses.
std::string BindToNumaNode(int node, const std::string& sysfs = "/sys");

}  // namespace convoy
