#include "comm/host/futex.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <ctime>

namespace convoy {

static_assert(sizeof(std::atomic<uint32_t>) == 4 && std::atomic<uint32_t>::is_always_lock_free);

bool FutexWait(std::atomic<uint32_t>& word, uint32_t seen, int64_t limit_ms) {
  timespec limit{};
  limit.tv_sec = limit_ms / 1000;
  limit.tv_nsec = limit_ms % 1000 * 1000000;
  const long result = syscall(SYS_futex, &word, FUTEX_WAIT, seen, &limit, nullptr, 0);
  return result == 0 || errno != ETIMEDOUT;
}

void FutexWakeAll(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace convoy
