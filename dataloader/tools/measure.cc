#include "dataloader/measure.h"

#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/host/clock.h"
#include "core/host/parallel.h"
#include "core/text.h"
#include "dataloader/images/image.h"
#include "dataloader/loading/permutation.h"

namespace convoy {
namespace {

class MemoryDataset final : public Dataset {
 public:
  MemoryDataset(const Dataset& source, int64_t least_bytes)
      : classes_(source.classes()), description_(source.Describe()) {
    for (int64_t i = 0; bytes_ < least_bytes; ++i) {
      const int64_t original =
          PermutedSample(0, i / source.size(), source.size(), i % source.size());
      Sample& sample = samples_.emplace_back();
      source.Read(original, sample.encoded);
      sample.encoded.bytes.shrink_to_fit();
      sample.label = source.Label(original);
      sample.name = source.Name(original);
      bytes_ += static_cast<int64_t>(sample.encoded.bytes.size());
      if (bytes_ == 0 && i + 1 == source.size()) {
        throw Error(ExitCode::kData, fmt::format("{}: every file is empty", description_));
      }
    }
  }

  int64_t size() const override { return static_cast<int64_t>(samples_.size()); }
  const std::vector<std::string>& classes() const override { return classes_; }
  int32_t Label(int64_t sample) const override { return At(sample).label; }
  std::string Name(int64_t sample) const override { return At(sample).name; }
  std::string Location(int64_t sample) const override {
    return fmt::format("{} in memory", Name(sample));
  }
  void Read(int64_t sample, EncodedSample& into) const override {
    const EncodedSample& from = At(sample).encoded;
    into.bytes.assign(from.bytes.begin(), from.bytes.end());
    into.height = from.height;
    into.width = from.width;
    into.channels = from.channels;
  }
  std::string Describe() const override {
    return fmt::format("{}, {} copies in memory, {}", description_, FormatCount(size()),
                       FormatBytes(static_cast<double>(bytes_)));
  }

 private:
  struct Sample {
    EncodedSample encoded;
    int32_t label = 0;
    std::string name;
  };
  const Sample& At(int64_t sample) const { return samples_.at(static_cast<size_t>(sample)); }

  std::vector<std::string> classes_;
  std::string description_;
  std::vector<Sample> samples_;
  int64_t bytes_ = 0;
};

// One thread's tools.
struct Decoding {
  EncodedSample sample;
  ImageDecoder decoder;
  std::vector<uint8_t> pixels;
  std::vector<uint8_t*> rows;
};

void Decode(Decoding& tools, DecodeWork work) {
  RowDecoder& image = tools.decoder.Open(tools.sample);
  const ImageInfo& info = image.info();
  // The decoder parses the rows above its window and does not transform them.
  const Window window = work == DecodeWork::kFull ? Window{0, 0, info.width, info.height}
                                                  : Window{0, info.height - 1, 1, info.height};
  image.Start(window, 3);
  const auto row_bytes =
      static_cast<size_t>(image.columns()) * static_cast<size_t>(image.pixel_bytes());
  const int rows = window.y1 - window.y0;
  const size_t bytes = row_bytes * static_cast<size_t>(rows);
  if (tools.pixels.size() < bytes) tools.pixels.resize(bytes);
  tools.rows.clear();
  for (int y = 0; y < rows; ++y) {
    tools.rows.push_back(tools.pixels.data() + row_bytes * static_cast<size_t>(y));
  }
  image.ReadRows(tools.rows.data(), rows);
}

}  // namespace

std::shared_ptr<const Dataset> CopyIntoMemory(const Dataset& source, int64_t least_bytes) {
  if (source.size() == 0) {
    throw Error(ExitCode::kData, fmt::format("{} has no images", source.Describe()));
  }
  return std::make_shared<MemoryDataset>(source, least_bytes);
}

double TimeDecoding(const Dataset& dataset, int64_t first, int64_t count, int threads,
                    DecodeWork work) {
  std::vector<Decoding> tools(static_cast<size_t>(threads));
  const Clock::time_point start = Clock::now();
  ParallelFor(first, first + count, threads,
              [&](int thread, int64_t i) {
                Decoding& own = tools[static_cast<size_t>(thread)];
                try {
                  dataset.Read(i % dataset.size(), own.sample);
                  Decode(own, work);
                } catch (const Error& error) {
                  if (error.exit_code() != ExitCode::kData) throw;
                }
              },
              {});
  return SecondsSince(start);
}

}  // namespace convoy
