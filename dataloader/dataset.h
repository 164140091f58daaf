// dataloader/dataset.h - labelled samples with random access: an archive, a folder, an IDX or CIFAR
// file, noise. A sample's identity is the rank of its "class/file" name in byte order.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/host/log.h"
#include "dataloader/left_out.h"

namespace convoy {

// What Dataset::Read gives: a compressed file, or pixels where the source has them plain.
struct EncodedSample {
  std::vector<uint8_t> bytes;
  // Set for plain pixels, uint8 [height, width, channels]; 0 for a compressed file (JPEG or PNG).
  int height = 0, width = 0, channels = 0;
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
  // The files that hold many samples each: archives, IDX, CIFAR. Empty if every sample is a file of
  // its own, whose path is its Location(), or noise.
  virtual std::vector<std::string> Archives() const { return {}; }
  // The size of a sample's file, found without reading it; -1 for a file that cannot be examined.
  // Nothing if the sample is no file but pixels.
  virtual std::optional<int64_t> FileBytes(int64_t /*sample*/) const { return std::nullopt; }
  // Overwrites `into`, reusing its memory. Throws (kDisk) if the bytes cannot be read.
  virtual void Read(int64_t sample, EncodedSample& into) const = 0;
  // The same, for a caller that scales the image to `side` pixels. Noise is made in that size at
  // once; all other data sets read what they have.
  virtual void ReadForSide(int64_t sample, int /*side*/, EncodedSample& into) const {
    Read(sample, into);
  }
  // Tells the system that the sample will be read soon. Returns at once and never fails.
  virtual void WillRead(int64_t /*sample*/) const {}
  // One line: "tar of tars /data/ILSVRC2012_img_train.tar: 1,281,167 images in 1,000 classes".
  virtual std::string Describe() const = 0;
  // The files that lie among the samples and are not read, because they are no JPEG or PNG.
  virtual const LeftOut& left_out() const {
    static const LeftOut none;
    return none;
  }
};

// Classes without images.
enum class EmptyClasses {
  kRefused,  // an error: for training
  kLeftOut,  // an empty folder is no class
  kKept,     // classes that have their labels from elsewhere
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
  // For class folders. One on disk that holds other files and no image is an error in any case.
  EmptyClasses empty_classes = EmptyClasses::kRefused;
};

// Opens `location` ("PATH" or "PATH:SPLIT"), told apart by its structure and not by its name (but
// see sources/shard_splits.h):
//   a folder of class folders; a folder with splits of them (needs :SPLIT where it has several)
//   a flat tar of class folders, with or without a leading split folder
//   a tar of class tars (the official ILSVRC train tar), read in place; or a folder of class tars
//   a flat tar or folder of ILSVRC2012_val_NNNNNNNN.JPEG (the official validation tar; needs a
//   devkit), or of ILSVRC2012_test_NNNNNNNN.JPEG (unlabelled)
//   a folder or tar of packed shards (WebDataset names, with a .cls member per sample)
//   a folder of images with a CSV of their classes, in it or named (sources/label_list.h)
//   Tiny ImageNet: CLASS/images/*.JPEG, and images beside val_annotations.txt
//   IDX files (a folder with {train,t10k}-{images,labels}-idxN-ubyte[.gz]; needs :train or :test)
//   CIFAR-10 and CIFAR-100 binary (a folder with data_batch_*.bin or train.bin; :train or :test)
//   synthetic:N[xCLASSES]: N images of noise, the same in every run
// Says on `log` what lies among the data and is not read. Throws (kData) with what was found and
// what is expected.
std::shared_ptr<const Dataset> OpenDataset(const std::string& location,
                                           const DatasetOptions& options, Log& log);

// Every image file below `paths` (files or folders), unlabelled, for predictions. Throws (kData).
std::shared_ptr<const Dataset> OpenImages(const std::vector<std::string>& paths);

}  // namespace convoy
