#include "comm/host/shared_segment.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <utility>

namespace convoy {
namespace {

constexpr int64_t kHugePageBytes = 2 << 20;

}  // namespace

std::optional<SharedSegment> SharedSegment::Create(int64_t bytes) {
  const int descriptor = memfd_create("convoy", MFD_CLOEXEC);
  if (descriptor < 0) return std::nullopt;
  SharedSegment segment(descriptor, bytes);
  if (ftruncate(descriptor, bytes) != 0 || !segment.Map()) return std::nullopt;
  // Takes the pages now, huge ones if it may, so that nothing is allocated in a step.
  std::memset(segment.data(), 0, static_cast<size_t>(bytes));
  return segment;
}

std::optional<SharedSegment> SharedSegment::Open(int process, int descriptor, int64_t bytes) {
  const int own =
      open(fmt::format("/proc/{}/fd/{}", process, descriptor).c_str(), O_RDWR | O_CLOEXEC);
  if (own < 0) return std::nullopt;
  SharedSegment segment(own, bytes);
  if (lseek(own, 0, SEEK_END) != bytes || !segment.Map()) return std::nullopt;
  return segment;
}

SharedSegment::SharedSegment(SharedSegment&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)) {}

SharedSegment& SharedSegment::operator=(SharedSegment&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

SharedSegment::~SharedSegment() {
  if (data_ != nullptr) munmap(data_, static_cast<size_t>(bytes_));
  if (descriptor_ >= 0) close(descriptor_);
}

bool SharedSegment::Map() {
  const auto size = static_cast<size_t>(bytes_);
  void* const address = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor_, 0);
  if (address == MAP_FAILED) return false;
  data_ = static_cast<std::byte*>(address);
  if (bytes_ >= kHugePageBytes) madvise(address, size, MADV_HUGEPAGE);
  return true;
}

}  // namespace convoy
