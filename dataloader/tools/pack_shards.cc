#include <algorithm>
#include <filesystem>
#include <limits>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/hash.h"
#include "core/host/files.h"
#include "core/text.h"
#include "dataloader/archives/names.h"
#include "dataloader/archives/tar_writer.h"
#include "dataloader/loading/bad_samples.h"
#include "dataloader/loading/permutation.h"
#include "dataloader/sources/shards.h"
#include "dataloader/tools/pack_sample.h"

namespace convoy {
namespace {

namespace fs = std::filesystem;

// The seed of the order, which is the same in every run.
constexpr uint64_t kShuffleSeed = 0;
// A data set cannot have more archives.
constexpr int64_t kMostShards = std::numeric_limits<uint16_t>::max();

int64_t ShardCount(const ShardOptions& options) {
  return (options.images.count + options.images_per_shard - 1) / options.images_per_shard;
}

std::string PathOfShard(const std::string& folder, int64_t shard) {
  return fmt::format("{}/shard-{:06}.tar", folder, shard);
}

// The places [begin, end) of a shard.
std::pair<int64_t, int64_t> PlacesOf(const ShardOptions& options, int64_t shard) {
  const int64_t begin = shard * options.images_per_shard;
  return {begin, std::min(begin + options.images_per_shard, options.images.count)};
}

// Returns the sample at place `i` of the shards, from 0.
int64_t SampleAtPlace(const Dataset& dataset, const ShardOptions& options, int64_t i) {
  const int64_t count = options.images.count;
  const int64_t chosen = PermutedSample(kShuffleSeed, 0, count, i);
  return EvenlySpaced(chosen, count, dataset.size());
}

class ShardWriter {
 public:
  explicit ShardWriter(const std::string& path) : tar_(path) {}

  // Returns "class/stem" and ".JPEG".
  void Add(const std::string& key, const std::string& extension,
           const std::vector<uint8_t>& content, int32_t label) {
    if (!keys_.insert(key).second) {
      throw Error(ExitCode::kData, fmt::format("two images of one shard would be named {}", key),
                  "rename one of them: in shards, points and folders become _");
    }
    tar_.Add(key + extension, content.data(), static_cast<int64_t>(content.size()));
    const std::string text = std::to_string(label);
    tar_.Add(key + ".cls", text.data(), static_cast<int64_t>(text.size()));
  }
  int64_t Commit() {
    tar_.Commit();
    return tar_.bytes_written();
  }

 private:
  TarWriter tar_;
  std::set<std::string> keys_;
};

// Packs the shards of one process.
class ShardPacker {
 public:
  ShardPacker(const Dataset& dataset, const ShardOptions& options, const std::string& folder,
              const JobProgressCall& progress)
      : dataset_(dataset),
        options_(options),
        folder_(folder),
        progress_(progress),
        stems_(dataset),
        pool_(options.images.threads) {}

  ShardReport Run() {
    for (int64_t shard = options_.part; shard < ShardCount(options_); shard += options_.parts) {
      const std::string path = PathOfShard(folder_, shard);
      ++report_.shards;
      if (PathExists(path)) {
        ++report_.kept;
      } else {
        Write(path, PlacesOf(options_, shard));
      }
    }
    return std::move(report_);
  }

 private:
  void Write(const std::string& path, std::pair<int64_t, int64_t> places) {
    const auto [begin, end] = places;
    const auto sample_of = [this, begin = begin](int64_t i) {
      return SampleAtPlace(dataset_, options_, begin + i);
    };
    ShardWriter writer(path);
    pool_.Run(
        end - begin,
        [&](SamplePacker& packer, int64_t i) { return PackOrCopy(packer, sample_of(i)); },
        [&](int64_t i, const PackedSample& packed) {
          const int64_t sample = sample_of(i);
          const int32_t label = dataset_.Label(sample);
          const std::string name = NameInClass(dataset_, sample);
          writer.Add(dataset_.classes()[static_cast<size_t>(label)] + "/" + stems_.Of(sample),
                     packed.needs_extension ? kJpegExtension : name.substr(name.rfind('.')),
                     packed.bytes, label);
          ++report_.images;
          if (progress_) progress_(report_.images);
        });
    report_.bytes += writer.Commit();
  }

  PackedSample PackOrCopy(SamplePacker& packer, int64_t sample) {
    try {
      return packer.Pack(dataset_, sample, options_.images);
    } catch (const Error& error) {
      if (error.exit_code() != ExitCode::kData) throw;
      const std::lock_guard lock(mutex_);
      report_.bad.push_back(BadSampleOf(dataset_, sample, error.message()));
    }
    return packer.Copy(dataset_, sample);
  }

  const Dataset& dataset_;
  const ShardOptions& options_;
  const std::string& folder_;
  const JobProgressCall& progress_;
  const ShardStems stems_;
  PackingPool pool_;
  std::mutex mutex_;  // of report_.bad
  ShardReport report_;
};

}  // namespace

std::string DescribeShards(const Dataset& dataset, const ShardOptions& options) {
  CheckPackOptions(dataset, options.images);
  if (options.images_per_shard < 1 || ShardCount(options) > kMostShards) {
    throw Error(ExitCode::kUsage,
                fmt::format("{} images a shard of {}: 1 to {} shards are possible",
                            options.images_per_shard, options.images.count, kMostShards));
  }
  Hasher names, contents;
  for (int64_t i = 0; i < dataset.size(); ++i) {
    const std::string name = dataset.Name(i) + "\n";
    names.Add(name.data(), name.size());
  }
  constexpr int64_t kSampled = 64;
  EncodedSample sample;
  const int64_t sampled = std::min(kSampled, dataset.size());
  for (int64_t k = 0; k < sampled; ++k) {
    dataset.Read(k * dataset.size() / sampled, sample);
    contents.Add(sample.bytes.data(), sample.bytes.size());
  }
  return fmt::format(
      "# Written by convoy data pack.\nsource-images = {}\nsource-names = {:016x}\n"
      "source-contents = {:016x}\ncount = {}\nshort-side = {}\nquality = {}\nlossless = {}\n"
      "shard-images = {}\n",
      dataset.size(), names.Digest(), contents.Digest(), options.images.count,
      options.images.short_side, options.images.quality, options.images.lossless ? "on" : "off",
      options.images_per_shard);
}

void PrepareShards(const Dataset& dataset, const std::string& settings, const std::string& folder) {
  const std::string path = folder + "/" + kShardSettingsFile;
  if (PathExists(path)) {
    if (ReadText(path, ExitCode::kDisk) != settings) {
      throw Error(ExitCode::kUsage,
                  fmt::format("{} holds shards of another source or with other options", folder),
                  fmt::format("give the options that stand in {}, or another folder", path));
    }
  } else {
    MakeFolder(folder);
    std::error_code unreachable;
    for (const auto& entry : fs::directory_iterator(folder, unreachable)) {
      if (IsIgnoredName(entry.path().filename().string())) continue;
      throw Error(ExitCode::kUsage, fmt::format("{} is not empty and holds no shards", folder),
                  "give another folder");
    }
    WriteText(path, settings);
  }
  std::string classes;
  for (const std::string& name : dataset.classes()) classes += name + "\n";
  WriteText(folder + "/" + kShardClassesFile, classes);
}

int64_t MissingImages(const ShardOptions& options, const std::string& folder) {
  int64_t missing = 0;
  for (int64_t shard = options.part; shard < ShardCount(options); shard += options.parts) {
    if (PathExists(PathOfShard(folder, shard))) continue;
    const auto [begin, end] = PlacesOf(options, shard);
    missing += end - begin;
  }
  return missing;
}

ShardReport PackShards(const Dataset& dataset, const ShardOptions& options,
                       const std::string& folder, const JobProgressCall& progress) {
  CheckPackOptions(dataset, options.images);
  return ShardPacker(dataset, options, folder, progress).Run();
}

}  // namespace convoy
