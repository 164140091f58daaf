#include "tests/emulation/loops_for_cudnn.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "core/device/stream.h"
#include "layers/cuda/kernels/launch.h"

namespace convoy::cuda {

double At(const void* data, DType dtype, int64_t i) {
  if (dtype == DType::kFloat32) return static_cast<double>(static_cast<const float*>(data)[i]);
  return static_cast<double>(static_cast<float>(static_cast<const BFloat16*>(data)[i]));
}

void Set(void* data, DType dtype, int64_t i, double value) {
  if (dtype == DType::kFloat32) {
    static_cast<float*>(data)[i] = static_cast<float>(value);
  } else {
    static_cast<BFloat16*>(data)[i] = BFloat16(static_cast<float>(value));
  }
}

namespace {

// Returns the place of element (n, h, w, c) of images.
int64_t PlaceOf(const ImageLayout& image, int64_t n, int64_t h, int64_t w, int64_t c) {
  return ((n * image.height + h) * image.width + w) * image.pixel_stride + c;
}

// visit(place in y, channel of y, place in x, place in the weights) for every multiply-add.
template <typename Visit>
void ForEachMultiplyAdd(const ConvolutionProblem& problem, Visit&& visit) {
  const ImageLayout &x = problem.x, &y = problem.y;
  const int64_t in = problem.channels_per_group, outs = y.channels / (x.channels / in);
  for (int64_t n = 0; n < y.batch; ++n) {
    for (int64_t oh = 0; oh < y.height; ++oh) {
      for (int64_t ow = 0; ow < y.width; ++ow) {
        for (int64_t o = 0; o < y.channels; ++o) {
          for (int64_t kh = 0; kh < problem.kernel; ++kh) {
            for (int64_t kw = 0; kw < problem.kernel; ++kw) {
              const int64_t h = oh * problem.stride - problem.padding.top + kh;
              const int64_t w = ow * problem.stride - problem.padding.left + kw;
              if (h < 0 || h >= x.height || w < 0 || w >= x.width) continue;
              for (int64_t i = 0; i < in; ++i) {
                visit(PlaceOf(y, n, oh, ow, o), o, PlaceOf(x, n, h, w, o / outs * in + i),
                      ((o * problem.kernel + kh) * problem.kernel + kw) * in + i);
              }
            }
          }
        }
      }
    }
  }
}

}  // namespace

void RunLoops(const ConvolutionProblem& problem, const ConvolutionMemory& memory) {
  std::map<int64_t, double> sums;
  std::map<int64_t, int64_t> channels;  // of the places of y
  ForEachMultiplyAdd(problem, [&](int64_t y, int64_t channel, int64_t x, int64_t weight) {
    const auto value = [&](ConvolutionOperand operand, int64_t i) {
      return At(memory[operand], problem.dtype, i);
    };
    switch (problem.pass) {
      case ProductPass::kForward:
        sums[y] += value(kX, x) * value(kWeight, weight);
        channels[y] = channel;
        break;
      case ProductPass::kBackwardData:
        sums[x] += value(kDy, y) * value(kWeight, weight);
        break;
      case ProductPass::kBackwardWeights:
        sums[weight] += value(kDy, y) * value(kX, x);
        break;
    }
  });
  for (auto [i, sum] : sums) {
    if (problem.adds_bias) sum += At(memory[kBias], problem.dtype, channels[i]);
    if (problem.relu) sum = std::max(sum, 0.0);
    if (problem.masks && At(memory[kX], problem.dtype, i) <= 0) sum = 0;
    Set(memory[kResult], problem.result_dtype, i, sum);
  }
}

struct CudnnContext::Parts {
  Stream* stream = nullptr;
};
CudnnContext::CudnnContext(int) : parts_(std::make_unique<Parts>()) {}
CudnnContext::~CudnnContext() = default;
void CudnnContext::Use(Stream& stream) { parts_->stream = &stream; }

struct ConvolutionGraph::Parts {
  ConvolutionProblem problem;
};
ConvolutionGraph::ConvolutionGraph(const ConvolutionProblem& problem)
    : parts_(std::make_unique<Parts>(Parts{problem})) {}
ConvolutionGraph::~ConvolutionGraph() = default;
std::vector<std::string> ConvolutionGraph::ProposePlans(CudnnContext&, const PlanLimits&) {
  return {"loops"};
}
int64_t ConvolutionGraph::BuildPlan(const std::string&) { return 0; }
void ConvolutionGraph::Execute(CudnnContext& context, const std::string&,
                               const ConvolutionMemory& memory, void*) const {
  for (size_t i = 0; i < memory.size(); ++i) {
    const auto alignment = static_cast<uintptr_t>(parts_->problem.alignment[i]);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(memory[i]) % alignment, 0u);
  }
  Enqueue(*context.parts_->stream,
          [problem = parts_->problem, memory] { RunLoops(problem, memory); });
}

}  // namespace convoy::cuda
