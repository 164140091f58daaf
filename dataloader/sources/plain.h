// dataloader/sources/plain.h - data sets of plain pixels that fit into memory (IDX, CIFAR).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "dataloader/dataset.h"

namespace convoy {

struct PlainSource {
  std::string description;  // "IDX /data/mnist:train"
  int height = 0, width = 0, channels = 0;
  std::vector<uint8_t> pixels;       // [images, height, width, channels], in the order of the files
  std::vector<int32_t> labels;       // [images]
  std::vector<std::string> classes;  // in byte order
  std::function<std::string(int64_t image)> location;
  std::vector<std::string> files;  // the files that all of this comes from
};

// Makes a data set with its samples in the order of "class/number", the identity that the same
// images have when they are packed as files. Throws (kData) if counts or labels contradict each
// other.
std::unique_ptr<Dataset> MakePlainDataset(PlainSource source);

// Returns "0", "1", ...; all of one length, so that their byte order is the order of the numbers.
std::vector<std::string> NumberNames(int64_t count);

}  // namespace convoy
