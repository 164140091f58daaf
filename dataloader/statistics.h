// dataloader/statistics.h - what is worked out about a data set and kept beside it: its mean image
// and colours.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/host/log.h"
#include "core/tensor/tensor.h"
#include "dataloader/bad_samples.h"
#include "dataloader/crop_options.h"
#include "dataloader/dataset.h"

namespace convoy {

// Of the training set under one geometry, on the 0..255 scale, channels R, G, B (or grey).
struct DataStatistics {
  int64_t images = 0;    // that they are of
  int64_t left_out = 0;  // bad ones; not kept in files
  uint64_t stamp = 0;    // StampOf() the data set
  int resize = 0;        // size of the square that the mean image covers
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
  // More bad samples than `bad_limit` are an error.
  StatisticsAccumulator(Geometry geometry, int resize, int channels, int64_t bad_limit);
  // The given samples, or samples [begin, end). Bad ones are left out. Throws (kData) if they are
  // too many. `progress`, which may be empty, is told of samples done, by one thread at a time.
  void Add(const Dataset& dataset, std::span<const int64_t> samples, int threads,
           const std::function<void(int64_t)>& progress = {});
  void Add(const Dataset& dataset, int64_t begin, int64_t end, int threads,
           const std::function<void(int64_t)>& progress = {});
  // That Add() left out, in the order of their identity.
  const std::vector<BadSample>& bad() const { return bad_; }
  // Everything that was added up, the number of bad samples too, as one fp64 tensor: to sum over
  // ranks in place.
  Tensor Sums();
  bool TooManyBad() const;
  // Throws (kData) for too many bad samples, or no good one.
  DataStatistics Finish() const;

 private:
  Geometry geometry_;
  int resize_, channels_;
  int64_t bad_limit_;
  std::vector<double> sums_;
  std::vector<BadSample> bad_;
};

// A number that differs once images of the data set were replaced, even by others of the same
// names. It comes from the sizes and times of its archives, or of up to 1,024 of its image files. 0
// for noise.
uint64_t StampOf(const Dataset& dataset);

// Where the statistics of `dataset`, opened from `location`, are kept: beside its index. The name
// holds a hash of some samples' names and places, so that another data set at the same path has
// another file. Empty when there is no such place.
std::string StatisticsPath(const std::string& location, const std::string& index_folder,
                           const Dataset& dataset, Geometry geometry, int resize, int channels);
// Several processes may save to one path at the same time. Throws (kDisk).
void SaveStatistics(const DataStatistics& statistics, const std::string& path);
// Whether SaveStatistics wrote the file at `path`, of this version or another.
bool IsStatisticsFile(const std::string& path);
// Throws (kData).
DataStatistics LoadStatistics(const std::string& path);
// Those kept at `path`, if they are of `dataset` as it is now. Otherwise nothing, and if there is a
// file, `log` says why it is not used.
std::optional<DataStatistics> LoadStatisticsOf(const Dataset& dataset, const std::string& path,
                                               Log& log);

}  // namespace convoy
