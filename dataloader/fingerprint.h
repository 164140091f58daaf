// dataloader/fingerprint.h - whether two copies of a data set are the same, and whether an archive
// is as it was published.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "dataloader/dataset.h"

namespace convoy {

// Told without reading the images. Equal for equal copies, whatever their paths, and whatever form
// they have: a folder and a tar of the same files.
struct Fingerprint {
  int64_t images = 0;
  uint64_t names = 0;     // of the names and labels of all images
  uint64_t contents = 0;  // of the sizes of up to 1,000 files, evenly spaced; of the pixels if they
                          // are no files

  bool operator==(const Fingerprint&) const = default;
};
Fingerprint FingerprintOf(const Dataset& dataset);

// The images whose contents a Fingerprint looks at, one a line: "class/name SIZE". The first line
// in which the texts of two copies differ is an example of how they differ.
std::string DescribeSampledImages(const Dataset& dataset);

// An official archive of ILSVRC-2012.
struct PublishedArchive {
  const char* name;
  int64_t bytes;
  const char* md5;  // 32 hexadecimal digits
};

// The archive of that file name.
std::optional<PublishedArchive> PublishedAs(const std::string& path);

// MD5 of a whole file, 32 hexadecimal digits. `progress`, which may be empty, is told of bytes
// done. Throws (kData, kDisk).
std::string Md5OfFile(const std::string& path, const std::function<void(int64_t)>& progress);

}  // namespace convoy
