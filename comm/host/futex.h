// comm/host/futex.h - sleeping until a word in shared memory changes. Unlike std::atomic::wait, it
// works between processes and takes a time limit.
#pragma once

#include <atomic>
#include <cstdint>

namespace convoy {

// False when `word` held `seen` for `limit_ms`. True when it may have changed; sometimes for no
// reason.
bool FutexWait(std::atomic<uint32_t>& word, uint32_t seen, int64_t limit_ms);
void FutexWakeAll(std::atomic<uint32_t>& word);

}  // namespace convoy
