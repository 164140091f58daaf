// dataloader/statistics.h - the mean image and the colours of a data set.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/tensor/tensor.h"
#include "dataloader/crop_options.h"
#include "dataloader/dataset.h"

namespace convoy {

// Of the training set under one geometry, on the 0..255 scale, channels R, G, B (or grey).
struct DataStatistics {
  int64_t images = 0;
  int resize = 0;  // size of the square that the mean image covers
  int channels = 0;
  std::vector<float> mean_image;          // [resize, resize, channels]
  std::vector<float> channel_mean;        // [channels]
  std::vector<float> channel_deviation;   // [channels]
  std::vector<double> colour_covariance;  // [channels, channels]

  // The central crop x crop piece of the mean image: what the 2012 code subtracts from every crop.
  std::vector<float> CentralMean(int crop) const;
};

// Adds up samples of a data set. Sums can be added over ranks before Finish; they are whole
// numbers, so that no order of adding changes a bit.
class StatisticsAccumulator {
 public:
  StatisticsAccumulator(Geometry geometry, int resize, int channels);
  // The given samples, or samples [begin, end). Bad ones are left out; more than max(8, 0.1 %) of
  // them are an error (kData). `progress`, which may be empty, is told of samples done, by one
  // thread at a time.
  void Add(const Dataset& dataset, std::span<const int64_t> samples, int threads,
           const std::function<void(int64_t)>& progress = {});
  void Add(const Dataset& dataset, int64_t begin, int64_t end, int threads,
           const std::function<void(int64_t)>& progress = {});
  // Everything that was added up, as one fp64 tensor: to sum over ranks in place.
  Tensor Sums();
  DataStatistics Finish() const;

 private:
  Geometry geometry_;
  int resize_, channels_;
  std::vector<double> sums_;
};

// Where the statistics of `dataset`, opened from `location`, are kept: beside its index. The name
// holds a hash of some samples' names and places, so that another data set at the same path has
// another file. Empty when there is no such place.
std::string StatisticsPath(const std::string& location, const std::string& index_folder,
                           const Dataset& dataset, Geometry geometry, int resize, int channels);
void SaveStatistics(const DataStatistics& statistics, const std::string& path);
// Throws (kData).
DataStatistics LoadStatistics(const std::string& path);

}  // namespace convoy
