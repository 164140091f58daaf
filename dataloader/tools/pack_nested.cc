#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"
#include "dataloader/archives/tar_writer.h"
#include "dataloader/tools/pack_sample.h"

namespace convoy {
namespace {

PackedSample PackOrSayWhich(SamplePacker& packer, const Dataset& dataset, int64_t sample,
                            const PackOptions& options) {
  try {
    return packer.Pack(dataset, sample, options);
  } catch (const Error& error) {
    throw Error(
        error.exit_code(),
        fmt::format("{} ({}): {}", dataset.Name(sample), dataset.Location(sample), error.message()),
        error.hint());
  }
}

// Writes a tar inside of a tar. The header of a class is written when its size is known.
class NestedTarWriter {
 public:
  explicit NestedTarWriter(const std::string& path) : tar_(path) {}

  void BeginClass(const std::string& name) {
    class_name_ = name + ".tar";
    names_.clear();
    header_at_ = tar_.bytes_written();
    tar_.Append(TarHeader(class_name_, 0));
    content_at_ = tar_.bytes_written();
  }
  void Add(const std::string& name, const std::vector<uint8_t>& content) {
    if (!names_.insert(name).second) {
      throw Error(ExitCode::kData,
                  fmt::format("two images of {} would be named {}", class_name_, name),
                  "give the images of a class names that differ");
    }
    tar_.Add(name, content.data(), static_cast<int64_t>(content.size()));
  }
  void EndClass() {
    tar_.Append(TarEnd());
    tar_.Overwrite(header_at_, TarHeader(class_name_, tar_.bytes_written() - content_at_));
  }
  void Commit() { tar_.Commit(); }

 private:
  TarWriter tar_;
  std::set<std::string> names_;  // of the current class
  std::string class_name_;
  int64_t header_at_ = 0, content_at_ = 0;
};

// Returns the samples to pack, in the order of their identity. Every class has at least one.
std::vector<int64_t> ChooseSamples(const Dataset& dataset, int64_t count) {
  std::vector<int64_t> chosen;
  std::set<int32_t> labels;
  int32_t last = -1;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t sample = EvenlySpaced(i, count, dataset.size());
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
                   const JobProgressCall& progress) {
  CheckPackOptions(dataset, options);
  const std::vector<int64_t> samples = ChooseSamples(dataset, options.count);
  const auto sample_of = [&](int64_t i) { return samples[static_cast<size_t>(i)]; };
  NestedTarWriter writer(path);
  int32_t label = -1;
  PackingPool(options.threads)
      .Run(
          std::ssize(samples),
          [&](SamplePacker& packer, int64_t i) {
            return PackOrSayWhich(packer, dataset, sample_of(i), options);
          },
          [&](int64_t i, const PackedSample& packed) {
            const int32_t next_label = dataset.Label(sample_of(i));
            if (next_label != label) {
              if (label >= 0) writer.EndClass();
              writer.BeginClass(dataset.classes()[static_cast<size_t>(next_label)]);
              label = next_label;
            }
            const std::string name = NameInClass(dataset, sample_of(i));
            writer.Add(packed.needs_extension ? name + kJpegExtension : name, packed.bytes);
            if (progress) progress(i + 1);
          });
  writer.EndClass();
  writer.Commit();
}

}  // namespace convoy
