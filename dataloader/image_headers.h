// dataloader/image_headers.h - what the headers of a data set's images say: sizes, sampling,
// kinds.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/host/log.h"
#include "dataloader/dataset.h"

namespace convoy {

// By sample, in the order of their identity.
struct ImageHeaders {
  enum Flag : uint8_t {
    kGrey = 1,
    kCmyk = 2,
    kPng = 4,
    kProgressive = 8,
    kRotated = 16,  // by EXIF, which is ignored
    kBad = 32,      // the header cannot be read; the other columns are 0
    kPlain = 64,    // no file: plain pixels
  };
  std::vector<uint16_t> width, height;
  std::vector<uint8_t> sampling;  // 16 * across + down pixels per chroma sample: 0x22 is 4:2:0
  std::vector<uint8_t> flags;
  uint64_t stamp = 0;  // of the images, before they were read

  int64_t CountOf(Flag flag) const;
};

ImageHeaders ReadImageHeaders(const Dataset& dataset, int threads,
                              const std::function<void(int64_t)>& progress);

// Beside the data set's index, as StatisticsPath(). Empty when there is no such place.
std::string ImageHeadersPath(const std::string& location, const std::string& index_folder,
                             const Dataset& dataset);
// Throws (kDisk).
void SaveImageHeaders(const ImageHeaders& headers, const std::string& path);
// Throws (kData).
ImageHeaders LoadImageHeaders(const std::string& path);
// Those kept at `path`, if they are of `dataset` as it is now. Otherwise nothing, and if there is a
// file, `log` says why it is not used.
std::optional<ImageHeaders> LoadImageHeadersOf(const Dataset& dataset, const std::string& path,
                                               Log& log);

}  // namespace convoy
