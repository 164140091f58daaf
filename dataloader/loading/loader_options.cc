#include "dataloader/loading/loader_options.h"

#include <algorithm>
#include <string>

#include "core/error.h"
#include "dataloader/crops/crop_plan.h"

namespace convoy {

int64_t Share::Rows(int64_t global_batch) const {
  const int64_t longest_run = (global_batch + replicas - 1) / replicas;
  return (longest_run + members - 1) / members;
}

std::pair<int64_t, int64_t> Share::Range(int64_t global_batch, int64_t n) const {
  CONVOY_CHECK(0 <= n && n <= global_batch, "{} samples of {}", n, global_batch);
  const int64_t run_begin = n * replica / replicas, run_end = n * (replica + 1) / replicas;
  const int64_t rows = Rows(global_batch);
  return {std::min(run_begin + member * rows, run_end),
          std::min(run_begin + (member + 1) * rows, run_end)};
}

void CheckOptions(const Dataset& dataset, const LoaderOptions& options) {
  const auto check = [](bool holds, const std::string& message, const char* hint) {
    if (!holds) throw Error(ExitCode::kUsage, message, hint);
  };
  const CropOptions& crop = options.crop;
  const Share& share = options.share;
  if (dataset.size() < 1) {
    throw Error(ExitCode::kData, fmt::format("{} is empty", dataset.Describe()));
  }
  check(options.global_batch >= 1, fmt::format("a batch of {} images", options.global_batch),
        "give --batch-size 1 or more");
  check(options.micro_batches >= 1 && options.micro_batches <= options.global_batch,
        fmt::format("a batch of {} images in {} micro-batches", options.global_batch,
                    options.micro_batches),
        "a micro-batch has at least one image: give a smaller --accumulate");
  check(options.threads >= 1 && options.queue >= 1,
        fmt::format("{} threads and a queue of {} batches", options.threads, options.queue),
        "both are at least 1");
  check(crop.crop >= 1 && crop.crop <= crop.resize,
        fmt::format("a crop of {} pixels out of {}", crop.crop, crop.resize),
        "the crop is at most as large as the resized image");
  check(crop.channels == 1 || crop.channels == 3, fmt::format("{} channels", crop.channels),
        "1 or 3 are expected");
  check(crop.views == 1 || (crop.views == kMostViews && !crop.random),
        fmt::format("{} {} views", crop.views, crop.random ? "random" : "fixed"),
        "1, or 10 that are not random");
  check(!crop.random || crop.colour == ColourNoise::kNone ||
            (crop.channels == 3 && crop.colour_strength),
        fmt::format("colour noise on {} channels{}", crop.channels,
                    crop.colour_strength ? "" : " without a strength"),
        "it needs 3 channels and a strength");
  check(crop.images_per_draw >= 1, fmt::format("{} images share a draw", crop.images_per_draw),
        "1 or more");
  for (const double strength :
       {crop.jitter.brightness, crop.jitter.contrast, crop.jitter.saturation}) {
    check(strength >= 0 && strength <= kMostJitter, fmt::format("colour jitter of {}", strength),
          "it is at least 0 and at most 16");
  }
  check(share.replicas >= 1 && share.replica >= 0 && share.replica < share.replicas &&
            share.members >= 1 && share.member >= 0 && share.member < share.members,
        fmt::format("replica {} of {}, member {} of {}", share.replica, share.replicas,
                    share.member, share.members),
        "both count from 0");
  check(static_cast<bool>(options.allocator), "no allocator", "AllocateHost is the default");
}

}  // namespace convoy
