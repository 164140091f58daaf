#include <algorithm>
#include <vector>

#include "core/host/parallel.h"
#include "dataloader/images/image.h"
#include "dataloader/loading/bad_samples.h"
#include "dataloader/packing.h"

namespace convoy {
namespace {

struct Worker {
  EncodedSample sample;
  ImageDecoder decoder{ReadOrientation::kYes};
  std::vector<uint8_t> row;
  VerifyReport report;
};

// Decodes all of the image that was read, row by row.
ImageInfo DecodeAll(Worker& worker) {
  RowDecoder& image = worker.decoder.Open(worker.sample);
  const ImageInfo& info = image.info();
  image.Start({0, 0, info.width, info.height}, 3);
  worker.row.resize(static_cast<size_t>(image.columns()) *
                    static_cast<size_t>(image.pixel_bytes()));
  uint8_t* row = worker.row.data();
  for (int y = 0; y < info.height; ++y) image.ReadRows(&row, 1);
  return info;
}

void Count(const ImageInfo& info, int crop, VerifyReport& report) {
  report.grey += info.is_grey();
  report.cmyk += info.is_cmyk();
  report.png += info.format == ImageFormat::kPng;
  report.progressive += info.progressive;
  report.exif_rotated += info.is_rotated();
  report.small += std::min(info.width, info.height) < crop;
}

}  // namespace

VerifyReport VerifyDataset(const Dataset& dataset, int64_t begin, int64_t end, int crop,
                           int threads, const JobProgressCall& progress) {
  std::vector<Worker> workers(static_cast<size_t>(threads));
  ParallelFor(
      begin, end, threads,
      [&](int thread, int64_t sample) {
        Worker& worker = workers[static_cast<size_t>(thread)];
        ++worker.report.images;
        try {
          dataset.Read(sample, worker.sample);
          worker.report.bytes += static_cast<int64_t>(worker.sample.bytes.size());
          Count(DecodeAll(worker), crop, worker.report);
        } catch (const Error& error) {
          if (!IsOfSample(error)) throw;
          worker.report.bad.push_back(BadSampleOf(dataset, sample, error.message()));
        }
      },
      progress);
  VerifyReport total;
  for (const Worker& worker : workers) {
    const VerifyReport& part = worker.report;
    total.images += part.images;
    total.bytes += part.bytes;
    total.grey += part.grey;
    total.cmyk += part.cmyk;
    total.png += part.png;
    total.progressive += part.progressive;
    total.exif_rotated += part.exif_rotated;
    total.small += part.small;
    total.bad.insert(total.bad.end(), part.bad.begin(), part.bad.end());
  }
  SortByPosition(total.bad);
  return total;
}

}  // namespace convoy
