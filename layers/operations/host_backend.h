// layers/operations/host_backend.h - what backends that compute in host memory have in common.
#pragma once

#include "core/error.h"
#include "layers/backend.h"

namespace convoy {

// Memory, copies and channel reorders on the host, with `threads` >= 1 threads.
class HostBackend : public Backend {
 public:
  explicit HostBackend(int threads) : threads_(threads) {
    CONVOY_CHECK(threads >= 1, "{} threads", threads);
  }

  Device device() const final { return {}; }
  std::unique_ptr<Stream> MakeStream() final { return std::make_unique<HostStream>(); }
  Buffer Allocate(int64_t bytes) final { return AllocateHost(bytes); }
  Buffer AllocateStaging(int64_t bytes) final { return AllocateHost(bytes); }
  void CopyToHost(Stream& stream, const Tensor& from, void* to) final;
  void CopyToDevice(Stream& stream, const void* from, const Tensor& to) final;
  void ConvertTensor(Stream& stream, const Tensor& from, const Tensor& to) final;
  void ConcatenateChannels(Stream& stream, const Tensor& blocks, const Tensor& whole) final;
  void SplitChannels(Stream& stream, const Tensor& whole, const Tensor& blocks) final;

 protected:
  const int threads_;
};

}  // namespace convoy
