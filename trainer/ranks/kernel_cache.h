// trainer/ranks/kernel_cache.h - kernel choices kept on disk, so that a kind of device is measured
// once.
#pragma once

#include <string>

#include "core/host/log.h"
#include "layers/backend.h"

namespace convoy {

// Returns the folder that --kernel-cache `asked` names; if that is empty, $XDG_CACHE_HOME/convoy or
// ~/.cache/convoy. Empty: nothing is kept ("none", or there is no home).
std::string KernelCacheFolder(const std::string& asked);

// One file per kind of device and versions of its libraries. Whatever is wrong with it is a
// warning: choices can always be measured again. Several processes may use one folder at once: what
// they read is whole, and of two that write at one time the last one wins.
class KernelCache {
 public:
  // Keeps nothing.
  KernelCache() = default;
  // Reads what `folder` has for Backend::Platform(). An empty folder name keeps nothing. `log`
  // outlives it.
  KernelCache(const std::string& folder, const std::string& platform, Log& log);

  // What is known: read at first, and added since.
  const KernelChoices& choices() const { return choices_; }
  // Adds `choices`, in place of others for the same products, and writes if that brings anything
  // new. What other processes have written meanwhile is kept.
  void Add(const KernelChoices& choices);

  // Empty if nothing is kept.
  const std::string& path() const { return path_; }

 private:
  KernelChoices Read() const;
  void Write() const;

  std::string path_;
  std::string platform_;  // what the file is for
  Log* log_ = nullptr;
  bool may_write_ = false;
  KernelChoices choices_;
};

}  // namespace convoy
