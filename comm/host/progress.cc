#include "comm/host/progress.h"

#include <fmt/core.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>

namespace convoy {
namespace {

int64_t SteadyNanoseconds() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Returns the state letter of /proc/PID/stat: R, S, D, T (stopped), Z (dead, not yet reaped); 0
// when there is no such process.
char ProcessState(int process) {
  if (kill(process, 0) != 0 && errno == ESRCH) return 0;
  std::ifstream file(fmt::format("/proc/{}/stat", process));
  std::string line;
  std::getline(file, line);
  // The name in parentheses may hold anything; the state follows its end.
  const size_t end_of_name = line.rfind(')');
  return end_of_name != std::string::npos && end_of_name + 2 < line.size() ? line[end_of_name + 2]
                                                                           : '?';
}

bool IsDead(char state) { return state == 0 || state == 'Z' || state == 'X'; }

}  // namespace

std::string HostName() {
  char name[256] = {};
  return gethostname(name, sizeof(name) - 1) == 0 && name[0] != 0 ? name : "localhost";
}

void SharedText::Set(std::string_view text) {
  std::array<uint64_t, std::tuple_size_v<decltype(words_)>> words{};
  std::memcpy(words.data(), text.data(), std::min(text.size(), kBytes - 1));
  for (size_t i = 0; i < words.size(); ++i) words_[i].store(words[i], std::memory_order_relaxed);
}

std::string SharedText::Get() const {
  std::array<uint64_t, std::tuple_size_v<decltype(words_)>> words{};
  for (size_t i = 0; i < words.size(); ++i) words[i] = words_[i].load(std::memory_order_relaxed);
  char text[kBytes];
  std::memcpy(text, words.data(), kBytes);
  return std::string(text, strnlen(text, kBytes));
}

void RankProgress::SetStep(int64_t new_step) {
  step.store(new_step, std::memory_order_relaxed);
  Sign();
}

void RankProgress::EnterCollective(const char* what) {
  collectives.fetch_add(1, std::memory_order_relaxed);
  last_collective.Set(what);
  Sign();
}

void RankProgress::SetWork(std::string_view what) {
  work.Set(what);
  Sign();
}

void RankProgress::Sign() { last_sign_ns.store(SteadyNanoseconds(), std::memory_order_relaxed); }

bool IsSeen(const Peer& peer) {
  if (peer.progress == nullptr) return false;
  return !peer.is_remote || peer.progress->beats.load(std::memory_order_relaxed) > 0;
}

bool IsLost(const Peer& peer) {
  if (peer.progress == nullptr) return false;
  if (peer.progress->ended.load(std::memory_order_acquire) != 0) return true;
  if (peer.progress->lost.load(std::memory_order_acquire) != 0) return true;
  const int process = peer.progress->process.load(std::memory_order_relaxed);
  return process != 0 && IsDead(ProcessState(process));
}

bool IsStopped(const Peer& peer) {
  if (peer.progress == nullptr) return false;
  const int process = peer.progress->process.load(std::memory_order_relaxed);
  return process != 0 && ProcessState(process) == 'T';
}

std::string Describe(const Peer& peer) {
  const std::string name = fmt::format("rank {} ({})", peer.world_rank, peer.host);
  if (!IsSeen(peer)) return name + ": not seen from this host";
  const RankProgress& progress = *peer.progress;
  const double age_s = static_cast<double>(SteadyNanoseconds() -
                                           progress.last_sign_ns.load(std::memory_order_relaxed)) *
                       1e-9;
  const std::string last = progress.last_collective.Get(), work = progress.work.Get();
  std::string text =
      fmt::format("{}: step {}{}, {} collectives{}, last sign {:.1f} s ago", name,
                  progress.step.load(std::memory_order_relaxed), work.empty() ? "" : ", " + work,
                  progress.collectives.load(std::memory_order_relaxed),
                  last.empty() ? "" : ", the last " + last, age_s);
  const int process = progress.process.load(std::memory_order_relaxed);
  if (progress.ended.load(std::memory_order_acquire) != 0) {
    text += ", ended";
  } else {
    const char state = process != 0 ? ProcessState(process) : 'R';
    if (IsDead(state)) text += ", lost";
    if (state == 'T') text += ", stopped";
    if (progress.lost.load(std::memory_order_acquire) != 0) text += ", silent";
  }
  return text;
}

std::string Describe(const std::vector<Peer>& peers) {
  std::string text;
  for (const Peer& peer : peers) {
    if (!text.empty()) text += "; ";
    text += Describe(peer);
  }
  return text;
}

}  // namespace convoy
