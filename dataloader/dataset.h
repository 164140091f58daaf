// dataloader/dataset.h - labelled samples with random access: an archive, a folder, an IDX or CIFAR
// file, noise. The identity of a sample is the rank of its "class/file" name in byte order.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/host/log.h"
#include "dataloader/left_out.h"

namespace convoy {

// What Dataset::Read gives: a compressed file, or pixels if the source has plain ones.
struct EncodedSample {
  std::vector<uint8_t> bytes;
  // Set for plain pixels, uint8 [height, width, channels]; 0 for a compressed file (JPEG or PNG).
  int height = 0, width = 0, channels = 0;
};

// Random access to labelled samples. Thread-safe. A loader shares the data set with the caller who
// opened it, because its threads read from it as long as the loader lives.
class Dataset {
 public:
  virtual ~Dataset() = default;

  virtual int64_t size() const = 0;
  // Returns class names (wnids, folder names, digits) in label order; empty for unlabelled images.
  virtual const std::vector<std::string>& classes() const = 0;
  virtual int32_t Label(int64_t sample) const = 0;
  // Returns the name that identifies a sample, for messages and predictions:
  // "n01440764/n01440764_10043.JPEG".
  virtual std::string Name(int64_t sample) const = 0;
  // Returns where its bytes lie: "/data/train.tar at byte 123456".
  virtual std::string Location(int64_t sample) const = 0;
  // Returns the files that hold many samples each: archives, IDX, CIFAR. Empty for noise, or if
  // every sample is a file of its own, whose path is its Location().
  virtual std::vector<std::string> Archives() const { return {}; }
  // Returns the size of a sample's file without reading it; -1 for a file that cannot be examined;
  // nothing if the sample is no file but pixels.
  virtual std::optional<int64_t> FileBytes(int64_t /*sample*/) const { return std::nullopt; }
  // Overwrites `into`, reusing its memory. Throws (kDisk) if the bytes cannot be read.
  virtual void Read(int64_t sample, EncodedSample& into) const = 0;
  // Does the same for a caller that scales the image to `side` pixels. Noise is made in that size
  // at once; all other data sets read what they have.
  virtual void ReadForSide(int64_t sample, int /*side*/, EncodedSample& into) const {
    Read(sample, into);
  }
  // Tells the system that the sample will be read soon. Does not wait and never fails.
  virtual void WillRead(int64_t /*sample*/) const {}
  // Returns one line: "tar of tars /data/ILSVRC2012_img_train.tar: 1,281,167 images in 1,000
  // classes".
  virtual std::string Describe() const = 0;
  // Returns the files among the samples that are not read, because they are no JPEG or PNG.
  virtual const LeftOut& left_out() const {
    static const LeftOut none;
    return none;
  }
};

// What is done with classes that have no images.
enum class EmptyClasses {
  kRefused,  // an error: for training
  kLeftOut,  // an empty folder is no class
  kKept,     // classes that have their labels from elsewhere
};

struct DatasetOptions {
  // The folder, archive or file of the ILSVRC devkit, for class order and validation truth. Only
  // the official validation tar needs it. A text with one wnid per line, in the order of the
  // images' numbers, is enough.
  std::string devkit;
  // Where indexes of archives are kept. If empty: beside the archive if that may be written, else
  // in the user's cache folder. Ranks that open the same new archive at once would each read all of
  // its headers, so let one of them open it first.
  std::string index_folder;
  // For class folders. A folder on disk that holds other files and no image is always an error.
  EmptyClasses empty_classes = EmptyClasses::kRefused;
};

// Opens `location` ("PATH" or "PATH:SPLIT"), recognised by its structure and not by its name (but
// see sources/shard_splits.h):
//   a folder of class folders; a folder with splits of them (needs :SPLIT if it has several)
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
// Says on `log` which files among the data are not read. Throws (kData) with what was found and
// what is expected.
std::shared_ptr<const Dataset> OpenDataset(const std::string& location,
                                           const DatasetOptions& options, Log& log);

// Opens every image file below `paths` (files or folders), unlabelled, for predictions. Throws
// (kData).
std::shared_ptr<const Dataset> OpenImages(const std::vector<std::string>& paths);

}  // namespace convoy
