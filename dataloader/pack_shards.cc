#include <algorithm>
#include <filesystem>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "core/hash.h"
#include "core/text.h"
#include "core/thread_pool.h"
#include "dataloader/pack_sample.h"
#include "dataloader/permutation.h"
#include "dataloader/shards.h"
#include "dataloader/tar_writer.h"

namespace convoy {
namespace {

namespace fs = std::filesystem;

// Shards are a mixture that is the same in every run.
constexpr uint64_t kShuffleSeed = 0;

int64_t ShardCount(const ShardOptions& options) {
  return (options.images.count + options.images_per_shard - 1) / options.images_per_shard;
}

std::string PathOfShard(const std::string& folder, int64_t shard) {
  return fmt::format("{}/shard-{:06}.tar", folder, shard);
}

// The sample at place `i` of the shards, from 0.
int64_t SampleAtPlace(const Dataset& dataset, const ShardOptions& options, int64_t i) {
  const int64_t count = options.images.count;
  const int64_t chosen = PermutedSample(kShuffleSeed, 0, count, i);
  return static_cast<int64_t>(static_cast<__int128>(chosen) * dataset.size() / count);
}

// What the images of the folder hang on. Not the number of threads or ranks.
std::string SettingsText(const Dataset& dataset, const ShardOptions& options) {
  Hasher names;
  for (int64_t i = 0; i < dataset.size(); ++i) {
    const std::string name = dataset.Name(i) + "\n";
    names.Add(name.data(), name.size());
  }
  return fmt::format(
      "# Written by convoy data pack.\nsource-images = {}\nsource-names = {:016x}\ncount = {}\n"
      "short-side = {}\nquality = {}\nlossless = {}\nshard-images = {}\n",
      dataset.size(), names.Digest(), options.images.count, options.images.short_side,
      options.images.quality, options.images.lossless ? "on" : "off", options.images_per_shard);
}

// WebDataset's key ends at the first point of a base name.
std::string KeyAndExtension(const Dataset& dataset, int64_t sample, const std::string& name) {
  const std::string& class_name = dataset.classes()[static_cast<size_t>(dataset.Label(sample))];
  const size_t point = name.rfind('.');
  std::string stem = name.substr(0, point);
  std::replace(stem.begin(), stem.end(), '.', '_');
  return class_name + "/" + stem + (point == std::string::npos ? ".jpg" : name.substr(point));
}

class ShardWriter {
 public:
  explicit ShardWriter(const std::string& path) : file_(path) {}

  void Add(const std::string& name, const std::vector<uint8_t>& bytes, int32_t label) {
    const std::string key = name.substr(0, name.rfind('.'));
    if (!keys_.insert(key).second) {
      throw Error(ExitCode::kData, fmt::format("two images of one shard would be named {}", key),
                  "give the images of a class names that differ before their extensions");
    }
    AddFile(name, bytes.data(), static_cast<int64_t>(bytes.size()));
    const std::string text = std::to_string(label);
    AddFile(key + ".cls", text.data(), static_cast<int64_t>(text.size()));
  }
  int64_t Commit() {
    Append(TarEnd());
    file_.Commit();
    return file_.bytes_written();
  }

 private:
  void AddFile(const std::string& name, const void* data, int64_t bytes) {
    Append(TarHeader(name, bytes));
    file_.Write(data, bytes);
    Append(TarPadding(bytes));
  }
  void Append(const std::string& text) {
    file_.Write(text.data(), static_cast<int64_t>(text.size()));
  }

  AtomicFile file_;
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
        packers_(static_cast<size_t>(options.images.threads)),
        pool_(options.images.threads, "convoy-pack") {}

  ShardReport Run() {
    for (int64_t shard = options_.part; shard < ShardCount(options_); shard += options_.parts) {
      const int64_t begin = shard * options_.images_per_shard;
      const int64_t end = std::min(begin + options_.images_per_shard, options_.images.count);
      ++report_.shards;
      if (fs::exists(PathOfShard(folder_, shard))) {
        ++report_.kept;
        done_ += end - begin;
        if (progress_) progress_(done_);
      } else {
        Write(PathOfShard(folder_, shard), begin, end);
      }
    }
    return std::move(report_);
  }

 private:
  // Threads fill a stretch of the shard in memory, then it is written in order.
  void Write(const std::string& path, int64_t begin, int64_t end) {
    constexpr int64_t kImagesPerThread = 32;
    const auto stretch_images = kImagesPerThread * static_cast<int64_t>(packers_.size());
    std::vector<PackedSample> stretch(static_cast<size_t>(stretch_images));
    ShardWriter writer(path);
    for (int64_t first = begin; first < end; first += stretch_images) {
      const int64_t count = std::min(stretch_images, end - first);
      for (size_t thread = 0; thread < packers_.size(); ++thread) {
        pool_.Submit([&, thread] {
          for (auto i = static_cast<int64_t>(thread); i < count;
               i += static_cast<int64_t>(packers_.size())) {
            stretch[static_cast<size_t>(i)] =
                PackOrCopy(packers_[thread], SampleAtPlace(dataset_, options_, first + i));
          }
        });
      }
      pool_.Wait();
      for (int64_t i = 0; i < count; ++i) {
        const int64_t sample = SampleAtPlace(dataset_, options_, first + i);
        const PackedSample& packed = stretch[static_cast<size_t>(i)];
        writer.Add(KeyAndExtension(dataset_, sample, packed.name), packed.bytes,
                   dataset_.Label(sample));
      }
      report_.images += count;
      done_ += count;
      if (progress_) progress_(done_);
    }
    report_.bytes += writer.Commit();
  }

  PackedSample PackOrCopy(SamplePacker& packer, int64_t sample) {
    try {
      return packer.Pack(dataset_, sample, options_.images);
    } catch (const Error& error) {
      if (error.exit_code() != ExitCode::kData) throw;
      const std::lock_guard lock(mutex_);
      report_.bad.push_back({.name = dataset_.Name(sample),
                             .location = dataset_.Location(sample),
                             .reason = error.message(),
                             .position = sample,
                             .replaced_by = {}});
    }
    return packer.Copy(dataset_, sample);
  }

  const Dataset& dataset_;
  const ShardOptions& options_;
  const std::string& folder_;
  const JobProgressCall& progress_;
  std::vector<SamplePacker> packers_;
  ThreadPool pool_;
  std::mutex mutex_;
  int64_t done_ = 0;
  ShardReport report_;
};

}  // namespace

void PrepareShards(const Dataset& dataset, const ShardOptions& options, const std::string& folder) {
  CheckPackOptions(dataset, options.images);
  if (options.images_per_shard < 1) {
    throw Error(ExitCode::kUsage, fmt::format("{} images a shard", options.images_per_shard));
  }
  const std::string settings = SettingsText(dataset, options);
  const std::string path = folder + "/" + kShardSettingsFile;
  if (fs::exists(path)) {
    if (ReadText(path, ExitCode::kDisk) == settings) return;
    throw Error(ExitCode::kUsage,
                fmt::format("{} holds shards of another source or with other options", folder),
                fmt::format("give the options that stand in {}, or another folder", path));
  }
  if (fs::exists(folder) && !fs::is_empty(folder)) {
    throw Error(ExitCode::kUsage, fmt::format("{} is not empty and holds no shards", folder),
                "give another folder");
  }
  MakeFolder(folder);
  std::string classes;
  for (const std::string& name : dataset.classes()) classes += name + "\n";
  WriteText(folder + "/" + kShardClassesFile, classes);
  WriteText(path, settings);
}

ShardReport PackShards(const Dataset& dataset, const ShardOptions& options,
                       const std::string& folder, const JobProgressCall& progress) {
  CheckPackOptions(dataset, options.images);
  return ShardPacker(dataset, options, folder, progress).Run();
}

}  // namespace convoy
