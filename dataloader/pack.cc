#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "core/thread_pool.h"
#include "dataloader/crop_plan.h"
#include "dataloader/crop_renderer.h"
#include "dataloader/dataloader.h"
#include "dataloader/jpeg_writer.h"
#include "dataloader/names.h"
#include "dataloader/tar.h"
#include "dataloader/tar_writer.h"

namespace convoy {
namespace {

constexpr int kMostQuality = 100;
// An image of 1 x 2000 scaled to a short side of 256 would be 256 x 512000.
constexpr int64_t kMostScaledPixels = kMostPixels;

// One thread's tools.
struct Worker {
  EncodedSample sample;
  CropRenderer renderer;
  JpegWriter writer;
  std::vector<uint8_t> pixels;
};

struct Packed {
  std::string name;  // inside of its class
  std::vector<uint8_t> bytes;
};

// The whole image at its new size, as a JPEG; or the file as it is.
Packed PackSample(const Dataset& dataset, int64_t sample, const PackOptions& options,
                  Worker& worker) {
  const std::string full_name = dataset.Name(sample);
  Packed packed{.name = full_name.substr(full_name.find('/') + 1), .bytes = {}};
  std::replace(packed.name.begin(), packed.name.end(), '/', '_');
  try {
    dataset.Read(sample, worker.sample);
    const ImageInfo info = worker.renderer.Open(worker.sample);
    const int short_side = std::min(info.width, info.height);
    const int wanted = options.short_side == 0 ? short_side : options.short_side;
    if (info.format != ImageFormat::kPlain && wanted == short_side) {
      packed.bytes = worker.sample.bytes;
      return packed;
    }
    const std::string extension = ExtensionOf(packed.name);
    if (extension != "jpeg" && extension != "jpg") packed.name += ".JPEG";
    const CropPlan plan = PlanWhole(info.width, info.height, wanted);
    if (plan.resized_width * plan.resized_height > kMostScaledPixels) {
      throw Error(ExitCode::kData,
                  fmt::format("{} x {} pixels when scaled, at most {} expected", plan.resized_width,
                              plan.resized_height, kMostScaledPixels));
    }
    const auto width = static_cast<int>(plan.resized_width);
    const auto height = static_cast<int>(plan.resized_height);
    const int channels = info.components == 1 ? 1 : 3;
    worker.pixels.resize(static_cast<size_t>(int64_t{width} * height * channels));
    worker.renderer.Render(plan, width, height, channels, worker.pixels.data());
    worker.writer.Write(worker.pixels.data(), width, height, channels, options.quality,
                        packed.bytes);
  } catch (const Error& error) {
    throw Error(error.exit_code(),
                fmt::format("{} ({}): {}", full_name, dataset.Location(sample), error.message()),
                error.hint());
  }
  return packed;
}

// Writes a tar inside of a tar: the header of a class is put in when its size is known.
class NestedTarWriter {
 public:
  explicit NestedTarWriter(const std::string& path) : file_(path) {}

  void BeginClass(const std::string& name) {
    class_name_ = name + ".tar";
    names_.clear();
    header_at_ = file_.bytes_written();
    Append(TarHeader(class_name_, 0));
    content_at_ = file_.bytes_written();
  }
  void Add(const Packed& packed) {
    if (!names_.insert(packed.name).second) {
      throw Error(ExitCode::kData,
                  fmt::format("two images of {} would be named {}", class_name_, packed.name),
                  "give the images of a class names that differ");
    }
    const auto bytes = static_cast<int64_t>(packed.bytes.size());
    Append(TarHeader(packed.name, bytes));
    file_.Write(packed.bytes.data(), bytes);
    Append(TarPadding(bytes));
  }
  void EndClass() {
    Append(TarEnd());
    const std::string header = TarHeader(class_name_, file_.bytes_written() - content_at_);
    file_.WriteAt(header_at_, header.data(), static_cast<int64_t>(header.size()));
  }
  void Commit() {
    Append(TarEnd());
    file_.Commit();
  }

 private:
  void Append(const std::string& text) {
    file_.Write(text.data(), static_cast<int64_t>(text.size()));
  }

  AtomicFile file_;
  std::set<std::string> names_;  // of the current class
  std::string class_name_;
  int64_t header_at_ = 0, content_at_ = 0;
};

// The samples to pack, in the order of their identity. Every class has one at least.
std::vector<int64_t> ChooseSamples(const Dataset& dataset, int64_t count) {
  std::vector<int64_t> chosen;
  std::set<int32_t> labels;
  int32_t last = -1;
  for (int64_t i = 0; i < count; ++i) {
    const auto sample = static_cast<int64_t>(static_cast<__int128>(i) * dataset.size() / count);
    chosen.push_back(sample);
    const int32_t label = dataset.Label(sample);
    if (!labels.insert(label).second && label != last) {
      throw Error(ExitCode::kUsage, fmt::format("{} does not lie class by class, so that it cannot "
                                                "be packed into class tars",
                                                dataset.Describe()));
    }
    last = label;
  }
  if (labels.size() < dataset.classes().size()) {
    throw Error(ExitCode::kUsage,
                fmt::format("{} images leave {} of {} classes without one", count,
                            dataset.classes().size() - labels.size(), dataset.classes().size()),
                "pack more images");
  }
  return chosen;
}

}  // namespace

void PackNestedTar(const Dataset& dataset, const PackOptions& options, const std::string& path,
                   const std::function<void(int64_t)>& progress) {
  if (dataset.classes().empty()) {
    throw Error(ExitCode::kUsage, fmt::format("{} has no classes to pack by", dataset.Describe()));
  }
  if (options.count < 1 || options.count > dataset.size() || options.short_side < 0 ||
      options.short_side > kLongestSide || options.quality < 1 || options.quality > kMostQuality ||
      options.threads < 1) {
    throw Error(ExitCode::kUsage,
                fmt::format("packing {} of {} images at short side {} and quality {} on {} threads",
                            options.count, dataset.size(), options.short_side, options.quality,
                            options.threads),
                "counts are at least 1, the quality at most 100");
  }
  const std::vector<int64_t> samples = ChooseSamples(dataset, options.count);
  ThreadPool pool(options.threads, "convoy-pack");
  std::vector<Worker> workers(static_cast<size_t>(options.threads));
  // Threads fill a stretch of the archive in memory, then it is written in order.
  constexpr size_t kImagesPerThread = 32;
  std::vector<Packed> stretch(workers.size() * kImagesPerThread);
  NestedTarWriter writer(path);
  int32_t label = -1;
  for (size_t first = 0; first < samples.size(); first += stretch.size()) {
    const size_t count = std::min(stretch.size(), samples.size() - first);
    for (size_t thread = 0; thread < workers.size(); ++thread) {
      pool.Submit([&, thread] {
        for (size_t i = thread; i < count; i += workers.size()) {
          stretch[i] = PackSample(dataset, samples[first + i], options, workers[thread]);
        }
      });
    }
    pool.Wait();
    for (size_t i = 0; i < count; ++i) {
      const int32_t next_label = dataset.Label(samples[first + i]);
      if (next_label != label) {
        if (label >= 0) writer.EndClass();
        writer.BeginClass(dataset.classes()[static_cast<size_t>(next_label)]);
        label = next_label;
      }
      writer.Add(stretch[i]);
    }
    if (progress) progress(static_cast<int64_t>(first + count));
  }
  writer.EndClass();
  writer.Commit();
}

}  // namespace convoy
