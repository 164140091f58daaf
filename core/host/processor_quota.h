// core/host/processor_quota.h - how much processor time the control groups of Linux allow this
// process: what `docker run --cpus`, Kubernetes' limits and systemd's CPUQuota set. Such a process
// may run on every processor, but is halted when the time of a period is used up.
#pragma once

#include <optional>
#include <string>

namespace convoy {

struct ProcessorQuota {
  double processors = 0;  // the quota of a period divided by its length, as 1.5
  std::string path;       // the folder of the control group that sets it
};

// Returns the smallest quota of this process's own control group and those above it, of version 1
// or 2; nothing if there is none, or if the system does not say. Files are read below `root`, which
// stands in for "/".
std::optional<ProcessorQuota> FindProcessorQuota(const std::string& root = "");

// Returns how many threads the quota lets run all the time, rounded up: 2 of 1.5; at least 1.
int WholeProcessors(const ProcessorQuota& quota);

}  // namespace convoy
