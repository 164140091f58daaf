// dataloader/dataloader.h - start here: bytes to batches.
//
//   Dataset   samples with random access: an archive, a folder, an IDX or CIFAR file, noise
//   Loader    global batch k of epoch e, decoded and cropped by a pool of threads
//
// The samples of batch k and every random choice in them are a function of (seed, epoch, k): not of
// threads, ranks, queue length or the form of the archive. A sample's identity is the rank of its
// "class/file" name in byte order.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/device/memory.h"
#include "core/host/log.h"
#include "core/tensor/batch.h"
#include "core/tensor/tensor.h"

namespace convoy {

// --- Samples -------------------------------------------------------------------------------------

// What Dataset::Read gives: a compressed file, or pixels where the source has them plain.
struct EncodedSample {
  std::vector<uint8_t> bytes;
  // Set for plain pixels, uint8 [height, width, channels]; 0 for a compressed file (JPEG or PNG).
  int height = 0, width = 0, channels = 0;
  // Asked, not given: height and width of the images of a source that can make any size
  // (synthetic).
  int side_of_synthetic = 256;
};

// Random access to labelled samples. Thread-safe. Loaders share it with whoever opened it, since
// their threads read from it for as long as they live.
class Dataset {
 public:
  virtual ~Dataset() = default;

  virtual int64_t size() const = 0;
  // Class names (wnids, folder names, digits) in label order; empty for unlabelled images.
  virtual const std::vector<std::string>& classes() const = 0;
  virtual int32_t Label(int64_t sample) const = 0;
  // "n01440764/n01440764_10043.JPEG": the sample's identity, for messages and predictions.
  virtual std::string Name(int64_t sample) const = 0;
  // Where its bytes lie: "/data/train.tar at byte 123456".
  virtual std::string Location(int64_t sample) const = 0;
  // Overwrites `into`, reusing its memory. Throws (kDisk) when the bytes cannot be read.
  virtual void Read(int64_t sample, EncodedSample& into) const = 0;
  // Tells the system that the sample will be read soon. Returns at once and never fails.
  virtual void WillRead(int64_t /*sample*/) const {}
  // One line: "tar of tars /data/ILSVRC2012_img_train.tar: 1,281,167 images in 1,000 classes".
  virtual std::string Describe() const = 0;
};

struct DatasetOptions {
  // Folder, archive or file of the ILSVRC devkit: class order and validation truth. Needed by the
  // official validation tar alone. A text with one wnid a line, in the order of the images'
  // numbers, will do.
  std::string devkit;
  // Where indexes of archives are kept; empty: beside the archive where that may be written, else
  // in the user's cache folder. Ranks that open the same new archive at once would each read all of
  // its headers: let one open it first.
  std::string index_folder;
};

// Opens `location` ("PATH" or "PATH:SPLIT"), told apart by its structure, never by its name:
//   a folder of class folders; a folder with splits of them (needs :SPLIT where it has several)
//   a flat tar of class folders, with or without a leading split folder
//   a tar of class tars (the official ILSVRC train tar), read in place; or a folder of class tars
//   a flat tar or folder of ILSVRC2012_val_NNNNNNNN.JPEG (the official validation tar; needs a
//   devkit), or of ILSVRC2012_test_NNNNNNNN.JPEG (unlabelled)
//   a folder or tar of packed shards (WebDataset names, with a .cls member per sample)
//   IDX files (a folder with {train,t10k}-{images,labels}-*[.gz]; needs :train or :test)
//   CIFAR-10 and CIFAR-100 binary (a folder with data_batch_*.bin or train.bin; :train or :test)
//   synthetic:N[xCLASSES]: N images of noise, the same in every run
// Throws (kData) with what was found and what is expected.
std::shared_ptr<const Dataset> OpenDataset(const std::string& location,
                                           const DatasetOptions& options, Log& log);

// Every image file below `paths` (files or folders), unlabelled, for predictions. Throws (kData).
std::shared_ptr<const Dataset> OpenImages(const std::vector<std::string>& paths);

// --- Crops ---------------------------------------------------------------------------------------

// What part of an image a crop is drawn from.
enum class Geometry {
  kSquare2012,  // short side to 256, centre 256 x 256, crop from that square
  kRectangle,   // short side to 256, crop from the whole rectangle
  kSquash,      // both sides to 256 whatever the shape (Caffe)
  // In training a rectangle of random area (8 % to all of the image) and shape (3:4 to 4:3), scaled
  // to the crop, as of Inception and torchvision; else kRectangle.
  kRandomResized,
};

// Random changes of a crop, each by a factor drawn evenly from [1 - strength, 1 + strength] (never
// below 0), in random order: towards black, towards the crop's mean grey, towards each pixel's own
// grey.
inline constexpr double kMostJitter = 16;  // of each strength
struct ColourJitter {
  double brightness = 0, contrast = 0, saturation = 0;

  bool any() const { return brightness > 0 || contrast > 0 || saturation > 0; }
};

// PCA colour (paper, section 4.1), per image: one draw of three normals times the components.
enum class ColourNoise {
  kNone,
  k2012,      // standard deviations of the components, whole image then times 1 / (1 + strength)
  kLighting,  // the later constants: weaker 2.2, 7.7 and 17 times
};

enum class Order { kShuffled, kSequential };

struct CropOptions {
  Geometry geometry = Geometry::kSquare2012;
  int resize = 256;    // short side (kSquash: both sides)
  int crop = 224;      // height and width of the result; <= resize
  int channels = 3;    // 1 or 3: grey images are repeated, colour images become luma
  bool random = true;  // random place and mirror; false: centre, not mirrored
  int views = 1;       // 10 with random = false: four corners and centre, each also mirrored
  // So many neighbours in the epoch's order share place and mirror: 32 in the code of 2012.
  int images_per_draw = 1;
  // Large JPEGs are decoded at 1/2 or 1/4 where that is still no smaller than the resized image:
  // faster, and not the same pixels.
  bool dct_scaling = false;
  ColourJitter jitter;  // where random
  ColourNoise colour = ColourNoise::kNone;
  // Standard deviation of the draw, by epoch: 0.1 in the paper. A pure function, called by any
  // thread. Not asked when colour is kNone or random is false.
  std::function<double(int64_t epoch)> colour_strength;
};

// --- Batches -------------------------------------------------------------------------------------

// Which rows of every global batch a loader fills. A global batch of n samples is cut into
// `replicas` runs of n / replicas samples (the first ones shorter where it does not divide), and a
// replica's run into pieces of Rows() samples for its `members`, who exchange their rows: joined in
// the members' order, the pieces are the run with all padding behind it. Every batch has Rows()
// rows; those past the run's end are padding (weight 0).
struct Share {
  int replica = 0, replicas = 1;
  int member = 0, members = 1;

  // Images of a batch that one member decodes, padding included.
  int64_t Rows(int64_t global_batch) const;
  // First and last + 1 sample, counted in the global batch of n <= global_batch samples, of this
  // member.
  std::pair<int64_t, int64_t> Range(int64_t global_batch, int64_t n) const;
};

enum class BadSamplePolicy {
  kSubstitute,  // another sample, a function of (seed, epoch, position)
  kDrop,        // weight 0
  kFail,        // Error (kData)
};

// Finishes crops in the loader's threads, as core/tensor/batch.h's formula says.
struct FinishOptions {
  DType dtype = DType::kFloat32;          // or kBFloat16
  std::vector<float> mean;                // [crop, crop, channels], [channels], or none
  std::vector<float> standard_deviation;  // [channels], or none
};

struct LoaderOptions {
  uint64_t seed = 0;
  Order order = Order::kShuffled;
  int64_t global_batch = 128;  // images
  Share share;
  CropOptions crop;
  int threads = 1;
  int queue = 3;  // batches ready or in work ahead of the consumer
  BadSamplePolicy bad_samples = BadSamplePolicy::kSubstitute;
  // More bad samples than this in one epoch end the run (kData): max(8, 0.1 %) by default, counted
  // by this loader.
  std::optional<int64_t> bad_sample_limit;
  // Batches hold finished values instead of uint8 crops.
  std::optional<FinishOptions> finish;
  // Bytes of images that the system is told of before they are needed: hides a slow disk.
  int64_t read_ahead_bytes = 64'000'000;
  // Of pixel memory: pinned if a device wants it. The loader's threads call it.
  Allocator allocator = AllocateHost;
};

struct BadSample {
  std::string name, location, reason;
  int64_t epoch = 0, position = 0;
  std::string replaced_by;  // name of the substitute; empty where it was dropped
};

// Where the loader's time went since it was made. Seconds are summed over threads.
struct LoaderStatistics {
  int64_t images = 0;
  int64_t bytes_read = 0;
  double read_s = 0, decode_s = 0, resize_s = 0;
  double augment_s = 0;  // colour jitter and finishing
  double work_s = 0;     // all of the above, and what lies between
  double wait_s = 0;     // the consumer waiting in Next(): the loader is slower
  // Of one JPEG in 128: its decoding, and how much of that was entropy decoding. The library does
  // both in one go, so a second, parsing pass over those files tells them apart.
  double sampled_decode_s = 0, sampled_entropy_s = 0;
  int64_t batches = 0, ready_batches = 0;  // given by Next(), and ready when it was called, summed
  int64_t bad_samples = 0;

  LoaderStatistics& operator+=(const LoaderStatistics& other);
  LoaderStatistics operator-(const LoaderStatistics& earlier) const;
};

// What statistics say of `elapsed_s` seconds of a loader with `threads` threads.
struct LoaderReport {
  double images_per_s = 0;
  double images_per_busy_thread = 0;  // per second of a thread that never waits
  double read_mb_per_s = 0;
  double ready_batches = 0;  // on average, when one was asked for
  // Milliseconds of a thread per image. Entropy decoding is an estimate; 0 where there are no
  // JPEGs.
  double read_ms = 0, entropy_ms = 0, transform_ms = 0, resize_ms = 0, augment_ms = 0, other_ms = 0;
  double idle_share = 0;  // of the threads' time: they wait for the consumer
  double wait_share = 0;  // of the consumer's time: it waits for them
  // What limits the loader, and what more threads would give.
  std::string verdict;

  static LoaderReport Of(const LoaderStatistics& part, int threads, double elapsed_s);
};

class Loader {
 public:
  // The loader's threads read from `dataset` until the loader is destroyed, so the loader owns it
  // together with the caller. What the functions in `options` use must live as long. `log` outlives
  // the loader; only Next() writes to it. Throws (kUsage) for options that contradict each other.
  static std::unique_ptr<Loader> Make(std::shared_ptr<const Dataset> dataset,
                                      const LoaderOptions& options, Log& log);
  virtual ~Loader() = default;

  virtual int64_t batches_per_epoch() const = 0;
  // Rows of every batch: share.Rows(global_batch) * views. The views of one image are neighbours.
  virtual int64_t rows() const = 0;

  // The next Next() gives batch `index` of `epoch`; the one after the last of an epoch is the first
  // of the next. A loader starts at (0, 0), and begins to read with the first Seek() or Next().
  // Cheap: nothing is read to get there.
  virtual void Seek(int64_t epoch, int64_t index) = 0;
  // Blocks until the batch is ready. Errors of the threads surface here.
  virtual std::unique_ptr<Batch> Next() = 0;
  // Gives the memory of a batch back for another one.
  virtual void Recycle(std::unique_ptr<Batch> batch) = 0;

  virtual LoaderStatistics statistics() const = 0;
  // Of the batches that Next() gave since the last call, in the order of their positions.
  virtual std::vector<BadSample> TakeBadSamples() = 0;
};

// --- Statistics of a data set --------------------------------------------------------------------

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
