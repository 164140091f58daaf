// core/host/numa.h - the NUMA nodes of this host, and running near one of them.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace convoy {

// Returns the processors of a list as the kernel writes it ("0-3,8"), ascending. An empty list has
// none; nothing if the text is no such list.
std::optional<std::vector<int>> ParseProcessorList(std::string_view text);
// Returns the inverse, of ascending processors.
std::string FormatProcessorList(const std::vector<int>& processors);

// Returns the processors that the calling thread may run on (its affinity mask), ascending; none if
// the system does not say.
std::vector<int> AllowedProcessors();

// Returns the number of NUMA nodes that are online, as `sysfs` lists them; 1 if it does not say.
int NumaNodeCount(const std::string& sysfs = "/sys");
// Returns those of `allowed` that belong to `node`. None if there is no such node.
std::vector<int> ProcessorsOfNode(int node, const std::vector<int>& allowed,
                                  const std::string& sysfs = "/sys");

// Binds the calling thread, and what it starts from here on, to those processors of `node` that it
// may use: what it touches first then lies in the memory of that node. Returns the list of these
// processors. Returns "" and changes nothing if the host has one node, if the thread may use none
// of the node's processors or no others, or if the system refuses.
std::string BindToNumaNode(int node, const std::string& sysfs = "/sys");

}  // namespace convoy
