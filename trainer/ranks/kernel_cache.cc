#include "trainer/ranks/kernel_cache.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/hash.h"
#include "core/host/files.h"

namespace convoy {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kFormat[] = "convoy kernel choices 1";

}  // namespace

std::string KernelCacheFolder(const std::string& asked) {
  if (asked == "none") return {};
  if (!asked.empty()) return asked;
  return CacheFolder();
}

KernelCache::KernelCache(const std::string& folder, const std::string& platform, Log& log)
    : platform_(platform), log_(&log), may_write_(!folder.empty()) {
  if (folder.empty()) return;
  path_ = fmt::format("{}/kernels-{:016x}.json", folder, Hash64(platform_));
  try {
    choices_ = Read();
  } catch (const Error& error) {
    log.Warning("kernels are chosen anew: {}", error.message());
  }
}

void KernelCache::Add(const KernelChoices& choices) {
  bool is_new = false;
  for (const auto& [product, choice] : choices) {
    std::string& kept = choices_[product];
    is_new = is_new || kept != choice;
    kept = choice;
  }
  if (!is_new || !may_write_) return;
  try {
    choices_.merge(Read());
  } catch (const Error&) {  // NOLINT(bugprone-empty-catch): replaced by what is known
  }
  try {
    Write();
  } catch (const Error& error) {
    may_write_ = false;
    log_->Warning("chosen kernels are not kept: {}; or give --kernel-cache none", error.what());
  }
}

// Throws (kDisk) what is wrong with the file.
KernelChoices KernelCache::Read() const {
  if (!PathExists(path_)) return {};
  try {
    const Json json = Json::parse(ReadText(path_, ExitCode::kDisk));
    if (json.at("format") == kFormat && json.at("device") == platform_) {
      return json.at("choices").get<KernelChoices>();
    }
  } catch (const Json::exception& error) {
    throw Error(ExitCode::kDisk, fmt::format("{} is damaged: {}", path_, error.what()));
  }
  throw Error(ExitCode::kDisk,
              fmt::format("{} is not of the format \"{}\" for {}", path_, kFormat, platform_));
}

void KernelCache::Write() const {
  MakeFolder(path_.substr(0, path_.rfind('/')));
  const Json json = {{"format", kFormat}, {"device", platform_}, {"choices", choices_}};
  WriteSharedText(path_, json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace convoy
