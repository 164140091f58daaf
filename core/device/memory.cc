#include "core/device/memory.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace convoy {
namespace {

constexpr int64_t kHugePageBytes = 2 << 20;

int64_t AlignmentOf(int64_t bytes) {
  return bytes >= kHugePageBytes ? kHugePageBytes : kAlignmentBytes;
}

}  // namespace

Buffer::Buffer(void* data, int64_t bytes, Device device, Release release)
    : data_(data), bytes_(bytes), device_(device), release_(std::move(release)) {}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      device_(other.device_),
      release_(std::move(other.release_)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this != &other) {
    if (data_ != nullptr && release_) release_(data_);
    data_ = std::exchange(other.data_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
    device_ = other.device_;
    release_ = std::move(other.release_);
  }
  return *this;
}

Buffer::~Buffer() {
  if (data_ != nullptr && release_) release_(data_);
}

int64_t HostAllocationBytes(int64_t bytes) {
  return RoundUp(bytes > 0 ? bytes : 1, AlignmentOf(bytes));
}

Buffer AllocateHost(int64_t bytes) {
  CONVOY_CHECK(bytes >= 0, "{} bytes", bytes);
  const int64_t alignment = AlignmentOf(bytes), rounded = HostAllocationBytes(bytes);
  void* data = std::aligned_alloc(static_cast<size_t>(alignment), static_cast<size_t>(rounded));
  if (data == nullptr) {
    throw Error(ExitCode::kDevice, fmt::format("cannot allocate {} bytes of host memory", bytes),
                "use a smaller --batch-size, or more ranks");
  }
  if (alignment == kHugePageBytes) madvise(data, static_cast<size_t>(rounded), MADV_HUGEPAGE);
  std::memset(data, 0, static_cast<size_t>(rounded));
  return Buffer(data, bytes, Device{}, [](void* pointer) { std::free(pointer); });
}

}  // namespace convoy
