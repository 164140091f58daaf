// layers/cuda/products/cudnn_graph.h - one convolution as a graph of cuDNN's, without cuDNN's
// headers.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/device/stream.h"
#include "core/tensor/dtype.h"
#include "layers/cuda/products/library.h"
#include "layers/spec.h"

namespace convoy::cuda {

// Images [N, H, W, C], or a range of the channels of wider ones.
struct ImageLayout {
  int64_t batch = 1, height = 1, width = 1, channels = 1;
  int64_t pixel_stride = 1;  // elements from one place to the next; channels if they are all
};

// What a graph reads and writes: x, weights [O, kernel, kernel, I], dy, a bias [O], and its result:
// y, dx or the gradient of the weights.
enum ConvolutionOperand { kX, kWeight, kDy, kBias, kResult, kConvolutionOperands };
// Device memory; what a graph does not use is null.
using ConvolutionMemory = std::array<void*, kConvolutionOperands>;

struct ConvolutionProblem {
  ProductPass pass = ProductPass::kForward;
  DType dtype = DType::kFloat32;         // of x, weights, dy and the bias
  DType result_dtype = DType::kFloat32;  // sums are fp32 in any case
  ImageLayout x, y;
  int64_t kernel = 1, stride = 1;
  int64_t channels_per_group = 1;  // of x; the graph is grouped if x has more
  Padding padding;
  // Fused after the convolution.
  bool adds_bias = false, relu = false;  // forward
  bool masks = false;                    // backward data: zero if x is not above zero
  // Bytes that every address is a multiple of.
  std::array<int64_t, kConvolutionOperands> alignment = {16, 16, 16, 16, 16};
};

// A device's cuDNN, or cuDNN for a device that is only described.
class CudnnContext {
 public:
  // Throws (kDevice) if the library is too old or cannot be set up.
  explicit CudnnContext(int device);
  // For a device that need not be there: plans can be proposed and built, but not executed.
  // `properties` is the JSON of cuDNN's device property descriptor. Throws (kDevice) if cuDNN
  // does not know it.
  explicit CudnnContext(const std::string& properties);
  CudnnContext(const CudnnContext&) = delete;
  CudnnContext& operator=(const CudnnContext&) = delete;
  ~CudnnContext();

  // What is executed from now on is queued on `stream`.
  void Use(Stream& stream);

 private:
  friend class ConvolutionGraph;
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

// Returns "cuDNN 9.19.0", the one that is loaded.
std::string CudnnVersion();

// Which of cuDNN's plans may compute a graph. Those whose results differ from run to run, and those
// whose sums are not fp32, never may.
struct PlanLimits {
  bool tensor_cores = true;  // false: they would round fp32 inputs to TF32
  int64_t workspace_bytes = 0;
};

class ConvolutionGraph {
 public:
  // Throws (kDevice) if cuDNN says that it makes no sense. Needs no device.
  explicit ConvolutionGraph(const ConvolutionProblem& problem);
  ConvolutionGraph(const ConvolutionGraph&) = delete;
  ConvolutionGraph& operator=(const ConvolutionGraph&) = delete;
  ~ConvolutionGraph();

  // Once: the names of the plans that cuDNN's heuristics propose, the best first. A name stands for
  // an engine and its settings. Throws (kDevice) if cuDNN has none; one of them may still be
  // refused.
  std::vector<std::string> ProposePlans(CudnnContext& context, const PlanLimits& limits);
  // Makes a plan ready and returns the bytes of workspace that it needs. Throws (kDevice) if it
  // is refused.
  int64_t BuildPlan(const std::string& name);
  void Execute(CudnnContext& context, const std::string& name, const ConvolutionMemory& memory,
               void* workspace) const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace convoy::cuda
