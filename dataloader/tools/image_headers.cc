#include <algorithm>
#include <string_view>

#include "core/error.h"
#include "core/host/files.h"
#include "core/host/parallel.h"
#include "dataloader/archives/checked_file.h"
#include "dataloader/archives/companion.h"
#include "dataloader/images/image.h"
#include "dataloader/loading/bad_samples.h"
#include "dataloader/statistics.h"

namespace convoy {
namespace {

constexpr std::string_view kMagic = "CONVOYHD";
constexpr uint32_t kVersion = 2;

struct Worker {
  EncodedSample sample;
  ImageDecoder decoder{ReadOrientation::kYes};
};

uint8_t FlagsOf(const ImageInfo& info) {
  int flags = 0;
  if (info.is_grey()) flags |= ImageHeaders::kGrey;
  if (info.is_cmyk()) flags |= ImageHeaders::kCmyk;
  if (info.format == ImageFormat::kPng) flags |= ImageHeaders::kPng;
  if (info.format == ImageFormat::kPlain) flags |= ImageHeaders::kPlain;
  if (info.progressive) flags |= ImageHeaders::kProgressive;
  if (info.is_rotated()) flags |= ImageHeaders::kRotated;
  return static_cast<uint8_t>(flags);
}

}  // namespace

int64_t ImageHeaders::CountOf(Flag flag) const {
  return std::count_if(flags.begin(), flags.end(), [flag](uint8_t own) { return own & flag; });
}

ImageHeaders ReadImageHeaders(const Dataset& dataset, int threads,
                              const std::function<void(int64_t)>& progress) {
  const auto count = static_cast<size_t>(dataset.size());
  ImageHeaders headers;
  headers.stamp = StampOfImages(dataset);
  headers.width.resize(count);
  headers.height.resize(count);
  headers.sampling.resize(count);
  headers.flags.resize(count);
  std::vector<Worker> workers(static_cast<size_t>(threads));
  ParallelFor(
      0, dataset.size(), threads,
      [&](int thread, int64_t sample) {
        Worker& worker = workers[static_cast<size_t>(thread)];
        const auto i = static_cast<size_t>(sample);
        try {
          dataset.Read(sample, worker.sample);
          const ImageInfo info = worker.decoder.Open(worker.sample);
          headers.width[i] = static_cast<uint16_t>(info.width);
          headers.height[i] = static_cast<uint16_t>(info.height);
          headers.sampling[i] = info.sampling;
          headers.flags[i] = FlagsOf(info);
        } catch (const Error& error) {
          if (!IsOfSample(error)) throw;
          headers.flags[i] = ImageHeaders::kBad;
        }
      },
      progress);
  return headers;
}

std::string ImageHeadersPath(const std::string& location, const std::string& index_folder,
                             const Dataset& dataset) {
  return CompanionPath(location, index_folder, dataset, ".convoy-headers");
}

void SaveImageHeaders(const ImageHeaders& headers, const std::string& path) {
  CheckedWriter writer(path, kMagic, kVersion);
  writer.Value(headers.stamp);
  writer.Array(headers.width);
  writer.Array(headers.height);
  writer.Array(headers.sampling);
  writer.Array(headers.flags);
  writer.Commit();
}

ImageHeaders LoadImageHeaders(const std::string& path) {
  CheckedReader reader(path, kMagic, kVersion);
  ImageHeaders headers;
  headers.stamp = reader.Value<uint64_t>();
  headers.width = reader.Array<uint16_t>();
  headers.height = reader.Array<uint16_t>();
  headers.sampling = reader.Array<uint8_t>();
  headers.flags = reader.Array<uint8_t>();
  reader.CheckEnd();
  const size_t count = headers.width.size();
  if (headers.height.size() != count || headers.sampling.size() != count ||
      headers.flags.size() != count) {
    throw Error(ExitCode::kData, fmt::format("{}: its columns differ in length", path),
                "make it again");
  }
  return headers;
}

std::optional<ImageHeaders> LoadImageHeadersOf(const Dataset& dataset, const std::string& path,
                                               Log& log) {
  if (!PathExists(path)) return std::nullopt;
  try {
    ImageHeaders headers = LoadImageHeaders(path);
    if (headers.stamp == StampOfImages(dataset)) return headers;
    log.Info("the headers in {} are read again: images have changed since", path);
  } catch (const Error& error) {
    log.Warning("the headers in {} are read again: {}", path, error.message());
  }
  return std::nullopt;
}

}  // namespace convoy
