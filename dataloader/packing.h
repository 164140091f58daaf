// dataloader/packing.h - checking data sets, and writing them anew: smaller, or in another
// form.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "dataloader/dataset.h"
#include "dataloader/loader.h"

namespace convoy {

// Called from time to time with the number of samples done, by one thread at a time. May be empty.
using JobProgressCall = std::function<void(int64_t)>;

// --- Checking ------------------------------------------------------------------------------------

struct VerifyReport {
  int64_t images = 0, bytes = 0;
  int64_t grey = 0, cmyk = 0, png = 0, progressive = 0, exif_rotated = 0;
  int64_t small = 0;           // their short side is less than the crop
  std::vector<BadSample> bad;  // in the order of their identity, which stands in `position`
};
// Decodes every sample of [begin, end) completely. `crop`, in pixels, is the side of the crops that
// will be taken.
VerifyReport VerifyDataset(const Dataset& dataset, int64_t begin, int64_t end, int crop,
                           int threads, const JobProgressCall& progress);

// What became of the samples of a data set that was packed.
struct ComparisonReport {
  int64_t same_bytes = 0, same_pixels = 0, scaled = 0;
  // The largest difference of a scaled image's mean of R, G or B, in levels.
  double largest_mean_difference = 0;
  std::vector<BadSample> different;  // another name, label, shape or picture
};
// Compares every sample of `packed` with that of the same class and name (extensions apart) in
// `source`. Scaled images may differ by `tolerance` levels in their mean colour. Throws (kData) if
// the two are not of the same size.
ComparisonReport CompareDatasets(const Dataset& packed, const Dataset& source, double tolerance,
                                 int threads, const JobProgressCall& progress);

// --- Packing -------------------------------------------------------------------------------------

// What becomes of each image.
struct PackOptions {
  int64_t count = 0;   // images, evenly spaced in the order of their identity
  int short_side = 0;  // images of another short side are scaled to this; 0: none is
  int quality = 95;    // 1 to 100, of JPEGs that are encoded again
  // JPEGs that need no scaling keep every pixel and lose the rest: metadata, and what better
  // Huffman tables save. Each image is checked. If a pixel would differ, or without `lossless`, the
  // file is copied as it is.
  bool lossless = false;
  int threads = 1;
};

// Throws (kUsage) if writing `output` would replace the source or a part of it, under any of its
// names, or something in its folder. The source is `dataset`, opened from `location` with the
// development kit `devkit` (empty if none). Call before anything is written.
void RequireOtherThanSource(const Dataset& dataset, const std::string& location,
                            const std::string& devkit, const std::string& output);

// Writes the images as JPEGs in the layout of the official training tar: a tar of one tar per
// class. The archive appears whole or not at all. Throws (kDisk, kData; kUsage for options that
// make no sense).
void PackNestedTar(const Dataset& dataset, const PackOptions& options, const std::string& path,
                   const JobProgressCall& progress);

// Shards are plain tars with WebDataset names (class/name.EXTENSION, where the extension is that of
// the source or .JPEG, and class/name.cls, the number of the class), in an order shuffled once, for
// programs that read them one after another; classes.txt names the classes. A folder belongs to one
// source and one set of options, which its shards.cfg holds: packing into it again writes the
// shards that are missing.
struct ShardOptions {
  PackOptions images;
  int64_t images_per_shard = 8192;
  // This process writes the shards numbered part, part + parts, part + 2 parts and so on.
  int part = 0, parts = 1;
};
struct ShardReport {
  int64_t shards = 0, kept = 0;  // all shards, and those that were there before
  int64_t images = 0, bytes = 0;
  std::vector<BadSample> bad;  // copied as they are: the loader has a policy for them
};
// Returns the options that determine the content of the shards, as the text of shards.cfg (not
// threads or progress). Throws (kUsage) for options that make no sense.
std::string DescribeShards(const Dataset& dataset, const ShardOptions& options);
// Makes the folder, or checks that packing into it may continue, and writes the two small files;
// shards.cfg holds `settings`, from DescribeShards(). Call it once, before any PackShards(), in the
// process that has locked the folder. Throws (kUsage) if the folder holds other shards, or anything
// else.
void PrepareShards(const Dataset& dataset, const std::string& settings, const std::string& folder);
// Returns the number of images in the shards that this process has still to write.
int64_t MissingImages(const ShardOptions& options, const std::string& folder);
// Writes the shards of this process that are missing. Every shard appears whole or not at all.
// `progress` counts images written. Throws as PackNestedTar() does.
ShardReport PackShards(const Dataset& dataset, const ShardOptions& options,
                       const std::string& folder, const JobProgressCall& progress);

}  // namespace convoy
