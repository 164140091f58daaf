// comm/host/shared_segment.h - memory that other processes of this host and user can map.
//
// An anonymous file (memfd): it has no name that could be left over, and is not limited by the size
// of /dev/shm. Peers open it through /proc/PID/fd.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

namespace convoy {

// Unmaps and closes when destroyed. Move-only.
class SharedSegment {
 public:
  // Zeroed memory of this process, backed by huge pages if the kernel offers them; nothing if
  // there is no such memory.
  static std::optional<SharedSegment> Create(int64_t bytes);
  // Returns the segment that `process` has open as `descriptor`; nothing if it cannot be reached.
  static std::optional<SharedSegment> Open(int process, int descriptor, int64_t bytes);

  SharedSegment(SharedSegment&& other) noexcept;
  SharedSegment& operator=(SharedSegment&& other) noexcept;
  ~SharedSegment();

  std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  int descriptor() const { return descriptor_; }

 private:
  SharedSegment(int descriptor, int64_t bytes) : descriptor_(descriptor), bytes_(bytes) {}
  bool Map();

  int descriptor_ = -1;
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace convoy
