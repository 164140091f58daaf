// dataloader/fingerprint.h - whether two copies of a data set are the same, and whether an archive
// has the size that was published.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "dataloader/dataset.h"

namespace convoy {

// Computed without reading the images. It is equal for equal copies, whatever their paths and
// whatever their form: a folder and a tar of the same files.
struct Fingerprint {
  int64_t images = 0;
  uint64_t names = 0;     // of the names and labels of all images
  uint64_t contents = 0;  // of the sizes of up to 1,000 files, evenly spaced; of the pixels if they
                          // are no files

  bool operator==(const Fingerprint&) const = default;
};
Fingerprint FingerprintOf(const Dataset& dataset);

// Returns the images whose contents a Fingerprint looks at, one per line: "class/name SIZE". The
// first line in which the texts of two copies differ is an example of how they differ.
std::string DescribeSampledImages(const Dataset& dataset);

// Returns the size in bytes that an archive of ILSVRC-2012 was published with, if `path` has the
// file name of one.
std::optional<int64_t> PublishedBytes(const std::string& path);

}  // namespace convoy
