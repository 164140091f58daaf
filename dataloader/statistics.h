// dataloader/statistics.h - what is computed from a data set and kept beside it: its mean image and
// colours.
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

// Statistics of the training set under one geometry, on the 0..255 scale, channels R, G, B (or
// grey).
struct DataStatistics {
  int64_t images = 0;    // number of images that they were made from
  int64_t left_out = 0;  // number of bad images; not kept in files
  uint64_t stamp = 0;    // StampOf() the data set
  int resize = 0;        // size of the square that the mean image covers
  int channels = 0;
  std::vector<float> mean_image;          // [resize, resize, channels]
  std::vector<float> channel_mean;        // [channels]
  std::vector<float> channel_deviation;   // [channels]
  std::vector<double> colour_covariance;  // [channels, channels]

  // Returns the central crop x crop piece of the mean image, which the 2012 code subtracts from
  // every crop.
  std::vector<float> CentralMean(int crop) const;
};

// Adds up samples of a data set. Sums can be added over ranks before Finish(); they are whole
// numbers, so the order of adding changes no bit.
class StatisticsAccumulator {
 public:
  // More bad samples than `bad_limit` are an error.
  StatisticsAccumulator(Geometry geometry, int resize, int channels, int64_t bad_limit);
  // Adds the given samples, or samples [begin, end). Leaves out bad ones; throws (kData) if they
  // are too many. `progress`, which may be empty, is called with the number of samples done, by one
  // thread at a time.
  void Add(const Dataset& dataset, std::span<const int64_t> samples, int threads,
           const std::function<void(int64_t)>& progress = {});
  void Add(const Dataset& dataset, int64_t begin, int64_t end, int threads,
           const std::function<void(int64_t)>& progress = {});
  // Returns those that Add() left out, in the order of their identity.
  const std::vector<BadSample>& bad() const { return bad_; }
  // Returns everything that was added up, with the number of bad samples, as one fp64 tensor, so
  // that the caller can sum over ranks in place.
  Tensor Sums();
  bool TooManyBad() const;
  // Throws (kData) if too many samples are bad, or none is good.
  DataStatistics Finish() const;

 private:
  Geometry geometry_;
  int resize_, channels_;
  int64_t bad_limit_;
  std::vector<double> sums_;
  std::vector<BadSample> bad_;
};

// Returns a number that differs if images of the data set were replaced, even by others of the same
// names. It is a hash of the sizes and times of its archives, or of up to 1,024 of its image files,
// evenly spaced, if they are files of their own. 0 for noise.
uint64_t StampOf(const Dataset& dataset);

// Returns where the statistics of `dataset`, opened from `location`, are kept: beside its index.
// The name holds a hash of some samples' names and places, so that another data set at the same
// path has another file. Empty if there is no such place.
std::string StatisticsPath(const std::string& location, const std::string& index_folder,
                           const Dataset& dataset, Geometry geometry, int resize, int channels);
// Saves statistics. Several processes may save to one path at the same time. Throws (kDisk).
void SaveStatistics(const DataStatistics& statistics, const std::string& path);
// Returns whether SaveStatistics wrote the file at `path`, in this version or another.
bool IsStatisticsFile(const std::string& path);
// Throws (kData).
DataStatistics LoadStatistics(const std::string& path);
// Returns the statistics kept at `path` if they are those of `dataset` as it is now. Otherwise
// returns nothing, and if there is a file, says on `log` why it is not used.
std::optional<DataStatistics> LoadStatisticsOf(const Dataset& dataset, const std::string& path,
                                               Log& log);

}  // namespace convoy
