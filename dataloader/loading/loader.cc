#include "dataloader/loader.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <set>
#include <utility>

#include "core/error.h"
#include "core/host/clock.h"
#include "core/host/thread_pool.h"
#include "core/text.h"
#include "dataloader/bad_samples.h"
#include "dataloader/crop_options.h"
#include "dataloader/crops/colour.h"
#include "dataloader/dataset.h"
#include "dataloader/loader_report.h"
#include "dataloader/loading/bad_samples.h"
#include "dataloader/loading/loader_options.h"
#include "dataloader/loading/read_ahead.h"
#include "dataloader/loading/sample_worker.h"

namespace convoy {
namespace {

// Images that a thread takes at once: small images are not worth a lock each.
constexpr int64_t kImagesAtATime = 4;

// A batch that is being made or is ready. The mutex of the loader guards its fields; but rows of
// the batch belong to the thread that claimed their images.
struct Slot {
  int64_t epoch = 0, index = 0;
  int64_t first_position = 0;  // of image 0
  double colour_strength = 0;
  std::unique_ptr<Batch> batch;
  int64_t images = 0;  // real ones; the rows after them are padding
  int64_t claimed = 0, done = 0;
  int active = 0;  // threads that are working on it
  std::exception_ptr error;
  std::vector<BadSample> bad;

  bool ready() const { return done == images; }
};

// This loader's part of a global batch, or of a micro-batch of it.
struct BatchRows {
  int64_t epoch = 0, global_index = 0, global_count = 0;
  MicroBatch micro;
  int64_t first_position = 0, images = 0;
};

class PoolLoader final : public Loader {
 public:
  PoolLoader(std::shared_ptr<const Dataset> dataset, const LoaderOptions& options, Log& log);
  ~PoolLoader() override;

  int64_t batches_per_epoch() const override { return batches_per_epoch_; }
  int64_t rows() const override { return images_ * views_; }
  void Seek(int64_t epoch, int64_t index) override;
  std::unique_ptr<Batch> Next() override;
  void Recycle(std::unique_ptr<Batch> batch) override;
  LoaderStatistics statistics() const override;
  std::vector<BadSample> TakeBadSamples() override;

 private:
  void Run();
  void Work(SampleWorker& worker);
  Slot* FindWork();
  void OpenSlot();
  BatchRows RowsOf(int64_t epoch, int64_t index) const;
  void Announce(const SampleWorker& worker, const BatchRows& rows) const;
  std::unique_ptr<Batch> TakeMemory();
  void DropSlots();
  void Account(const Slot& slot);
  void Fail(std::exception_ptr error);

  const std::shared_ptr<const Dataset> dataset_;
  const LoaderOptions options_;
  Log& log_;  // the consumer's thread writes to it
  int64_t images_, batches_per_epoch_, views_, view_bytes_;

  mutable std::mutex mutex_;
  std::condition_variable work_ready_, batch_ready_;
  bool started_ = false, stopping_ = false;
  int64_t fill_epoch_ = 0, fill_index_ = 0;  // of the next slot
  ReadAhead read_ahead_;
  std::deque<std::unique_ptr<Slot>> slots_;     // in the order of delivery
  std::vector<std::unique_ptr<Slot>> dropped_;  // threads are still working on them
  std::vector<std::unique_ptr<Batch>> free_;
  std::exception_ptr failure_;
  LoaderStatistics statistics_;
  std::vector<BadSample> bad_;
  BadSampleCount bad_in_epoch_;
  std::set<std::string> named_;     // bad samples that the log has named
  std::optional<ThreadPool> pool_;  // last: its threads use the others
};

PoolLoader::PoolLoader(std::shared_ptr<const Dataset> dataset, const LoaderOptions& options,
                       Log& log)
    : dataset_(std::move(dataset)),
      options_(options),
      log_(log),
      images_(options.share.Rows(options.MicroBatchSize())),
      read_ahead_(options.read_ahead_bytes, images_, options.threads),
      bad_in_epoch_(BadSampleLimit(options.bad_sample_limit, dataset_->size())) {
  const CropOptions& crop = options_.crop;
  const int64_t rest = dataset_->size() % options_.global_batch;
  batches_per_epoch_ =
      dataset_->size() / options_.global_batch * options_.MicroBatchesOf(options_.global_batch) +
      options_.MicroBatchesOf(rest);
  views_ = crop.views;
  view_bytes_ = int64_t{crop.crop} * crop.crop * crop.channels;
  pool_.emplace(options_.threads, "convoy-loader");
  for (int i = 0; i < options_.threads; ++i) pool_->Submit([this] { Run(); });
}

PoolLoader::~PoolLoader() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_ready_.notify_all();
  pool_.reset();
}

void PoolLoader::Fail(std::exception_ptr error) {
  if (!failure_) failure_ = std::move(error);
  batch_ready_.notify_all();
}

// --- Filling batches -----------------------------------------------------------------------------

std::unique_ptr<Batch> PoolLoader::TakeMemory() {
  if (!free_.empty()) {
    std::unique_ptr<Batch> batch = std::move(free_.back());
    free_.pop_back();
    return batch;
  }
  auto batch = std::make_unique<Batch>();
  const int side = options_.crop.crop;
  batch->shape = Shape{rows(), side, side, options_.crop.channels};
  batch->pixels = options_.allocator(batch->shape.count());
  batch->samples.resize(static_cast<size_t>(rows()));
  return batch;
}

BatchRows PoolLoader::RowsOf(int64_t epoch, int64_t index) const {
  BatchRows rows;
  rows.epoch = epoch;
  const int64_t batch = options_.global_batch, micro_size = options_.MicroBatchSize();
  const int of_a_full_one = options_.MicroBatchesOf(batch);
  rows.global_index = index / of_a_full_one;
  const int64_t first = rows.global_index * batch;
  rows.global_count = std::min(batch, dataset_->size() - first);
  rows.micro = {.index = static_cast<int>(index % of_a_full_one),
                .count = options_.MicroBatchesOf(rows.global_count)};
  const int64_t micro_first = rows.micro.index * micro_size;
  const auto [begin, end] =
      options_.share.Range(micro_size, std::min(micro_size, rows.global_count - micro_first));
  rows.first_position = first + micro_first + begin;
  rows.images = end - begin;
  return rows;
}

void PoolLoader::Announce(const SampleWorker& worker, const BatchRows& rows) const {
  for (int64_t image = 0; image < rows.images; ++image) {
    worker.Announce({options_.seed, rows.epoch, rows.first_position + image});
  }
}

void PoolLoader::OpenSlot() {
  auto slot = std::make_unique<Slot>();
  slot->epoch = fill_epoch_;
  slot->index = fill_index_;
  slot->batch = TakeMemory();
  const BatchRows own = RowsOf(fill_epoch_, fill_index_);
  slot->first_position = own.first_position;
  slot->images = own.images;
  const CropOptions& crop = options_.crop;
  const bool noisy = crop.random && crop.colour != ColourNoise::kNone;
  slot->colour_strength = noisy ? crop.colour_strength(fill_epoch_) : 0;

  Batch& batch = *slot->batch;
  batch.epoch = fill_epoch_;
  batch.index = own.global_index;
  batch.micro = own.micro;
  batch.global_count = own.global_count;
  batch.colour_scale = noisy ? ColourScale(crop.colour, slot->colour_strength) : 1.0f;
  const int64_t filled = slot->images * views_;
  std::fill(batch.samples.begin() + filled, batch.samples.end(), SampleInfo{});
  std::memset(static_cast<uint8_t*>(batch.pixels.data()) + filled * view_bytes_, 0,
              static_cast<size_t>((rows() - filled) * view_bytes_));
  if (++fill_index_ == batches_per_epoch_) {
    fill_index_ = 0;
    ++fill_epoch_;
  }
  const bool ready = slot->ready();
  slots_.push_back(std::move(slot));
  if (ready) batch_ready_.notify_all();
}

// Returns the slot whose next images are to be made; null if the queue is full or nobody has asked
// for a batch yet.
Slot* PoolLoader::FindWork() {
  if (!started_ || failure_) return nullptr;
  for (const auto& slot : slots_) {
    if (slot->claimed < slot->images && !slot->error) return slot.get();
  }
  while (static_cast<int>(slots_.size()) < options_.queue) {
    OpenSlot();
    if (slots_.back()->images > 0) return slots_.back().get();
  }
  return nullptr;
}

void PoolLoader::Run() {
  try {
    SampleWorker worker(*dataset_, options_);
    Work(worker);
  } catch (...) {
    const std::lock_guard lock(mutex_);
    Fail(std::current_exception());
  }
}

void PoolLoader::Work(SampleWorker& worker) {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    Slot* slot = nullptr;
    try {
      slot = FindWork();
    } catch (...) {
      Fail(std::current_exception());
    }
    if (slot == nullptr) {
      work_ready_.wait(lock);
      continue;
    }
    const int64_t begin = slot->claimed;
    const int64_t end = std::min(begin + kImagesAtATime, slot->images);
    slot->claimed = end;
    ++slot->active;
    const std::optional<int64_t> ahead =
        read_ahead_.Take(slot->epoch * batches_per_epoch_ + slot->index, statistics_);
    lock.unlock();
    worker.Clear();
    std::exception_ptr error;
    try {
      if (ahead) {
        Announce(worker, RowsOf(*ahead / batches_per_epoch_, *ahead % batches_per_epoch_));
      }
      auto* pixels = static_cast<uint8_t*>(slot->batch->pixels.data());
      for (int64_t image = begin; image < end; ++image) {
        worker.Fill({options_.seed, slot->epoch, slot->first_position + image},
                    slot->colour_strength, pixels + image * views_ * view_bytes_,
                    slot->batch->samples.data() + image * views_);
      }
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    --slot->active;
    slot->done += end - begin;
    slot->bad.insert(slot->bad.end(), worker.bad().begin(), worker.bad().end());
    if (error && !slot->error) slot->error = error;
    statistics_ += worker.statistics();
    if (slot->ready() || slot->error) batch_ready_.notify_all();
    const auto dropped = std::find_if(dropped_.begin(), dropped_.end(),
                                      [&](const auto& other) { return other.get() == slot; });
    if (dropped != dropped_.end() && slot->active == 0) {
      free_.push_back(std::move(slot->batch));
      dropped_.erase(dropped);
    }
  }
}

// --- The consumer's side -------------------------------------------------------------------------

void PoolLoader::DropSlots() {
  for (auto& slot : slots_) {
    if (slot->active == 0) {
      free_.push_back(std::move(slot->batch));
    } else {
      slot->claimed = slot->images;
      dropped_.push_back(std::move(slot));
    }
  }
  slots_.clear();
}

void PoolLoader::Seek(int64_t epoch, int64_t index) {
  if (epoch < 0 || index < 0 || index >= batches_per_epoch_) {
    throw Error(ExitCode::kDefect, fmt::format("batch {} of epoch {}, an epoch has {} batches",
                                               index, epoch, batches_per_epoch_));
  }
  const std::lock_guard lock(mutex_);
  const std::pair<int64_t, int64_t> next =
      slots_.empty() ? std::pair(fill_epoch_, fill_index_)
                     : std::pair(slots_.front()->epoch, slots_.front()->index);
  if (next != std::pair(epoch, index) || failure_) {
    DropSlots();
    failure_ = nullptr;
    bad_in_epoch_.Restart();
    fill_epoch_ = epoch;
    fill_index_ = index;
    read_ahead_.Restart();
  }
  started_ = true;
  work_ready_.notify_all();
}

std::unique_ptr<Batch> PoolLoader::Next() {
  std::unique_lock lock(mutex_);
  if (!started_) {
    started_ = true;
    work_ready_.notify_all();
  }
  const Clock::time_point start = Clock::now();
  ++statistics_.batches;
  for (const auto& slot : slots_) statistics_.ready_batches += slot->ready();
  batch_ready_.wait(lock, [this] {
    return failure_ || (!slots_.empty() && (slots_.front()->ready() || slots_.front()->error));
  });
  statistics_.wait_s += SecondsSince(start);
  if (failure_) std::rethrow_exception(failure_);
  Slot& slot = *slots_.front();
  try {
    Account(slot);
    if (slot.error) std::rethrow_exception(slot.error);
  } catch (...) {
    failure_ = std::current_exception();
    throw;
  }
  std::unique_ptr<Batch> batch = std::move(slot.batch);
  slots_.pop_front();
  work_ready_.notify_all();
  return batch;
}

// Counts the bad samples of a batch that is delivered. Throws (kData) if they are too many.
void PoolLoader::Account(const Slot& slot) {
  std::vector<BadSample> bad = slot.bad;
  SortByPosition(bad);
  for (const BadSample& sample : bad) {
    if (named_.insert(sample.name).second) {
      log_.Warning("bad sample {} ({}): {}", sample.name, sample.location, sample.reason);
    }
  }
  statistics_.bad_samples += std::ssize(bad);
  bad_in_epoch_.Add(slot.epoch, CountBadPositions(bad));
  bad_.insert(bad_.end(), bad.begin(), bad.end());
  if (!bad.empty() && bad_in_epoch_.TooMany()) throw bad_in_epoch_.TooManyError(bad.back());
}

void PoolLoader::Recycle(std::unique_ptr<Batch> batch) {
  if (!batch) return;
  const std::lock_guard lock(mutex_);
  CONVOY_CHECK(batch->pixels.bytes() == rows() * view_bytes_, "a batch of {}, rows of {} bytes",
               batch->shape.ToString(), view_bytes_);
  free_.push_back(std::move(batch));
}

LoaderStatistics PoolLoader::statistics() const {
  const std::lock_guard lock(mutex_);
  return statistics_;
}

std::vector<BadSample> PoolLoader::TakeBadSamples() {
  const std::lock_guard lock(mutex_);
  return std::exchange(bad_, {});
}

}  // namespace

std::unique_ptr<Loader> Loader::Make(std::shared_ptr<const Dataset> dataset,
                                     const LoaderOptions& options, Log& log) {
  CheckOptions(*dataset, options);
  return std::make_unique<PoolLoader>(std::move(dataset), options, log);
}

}  // namespace convoy
