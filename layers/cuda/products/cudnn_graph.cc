#include "layers/cuda/products/cudnn_graph.h"

#include <cuda_runtime.h>
#include <cudnn.h>
#include <cudnn_frontend.h>

#include <algorithm>
#include <map>
#include <unordered_map>
#include <utility>

#include "core/cuda/check.h"
#include "core/error.h"

namespace convoy::cuda {
namespace {

namespace fe = cudnn_frontend;
using fe::graph::Graph;
using Attributes = fe::graph::Tensor_attributes;
using TensorHandle = std::shared_ptr<Attributes>;

// cuDNN knows a tensor by a number above zero.
int64_t IdOf(ConvolutionOperand operand) { return int64_t{operand} + 1; }

fe::DataType_t DataTypeOf(DType dtype) {
  return dtype == DType::kBFloat16 ? fe::DataType_t::BFLOAT16 : fe::DataType_t::FLOAT;
}

[[noreturn]] void Fail(const std::string& call, const std::string& message) {
  throw Error(ExitCode::kDevice, fmt::format("cuDNN: {}: {}", call, message));
}

void Require(cudnnStatus_t status, const char* call) {
  if (status != CUDNN_STATUS_SUCCESS) Fail(call, cudnnGetErrorString(status));
}

// The frontend reports some failures by its own codes and throws others.
template <typename Call>
void RequireGood(const char* name, Call&& call) {
  std::string message;
  try {
    fe::error_t status = call();
    if (status.is_good()) return;
    message = status.get_message();
  } catch (const std::exception& error) {
    message = error.what();
  }
  // The reasons of every engine may follow.
  constexpr size_t kEnough = 400;
  if (message.size() > kEnough) message.resize(kEnough);
  std::replace(message.begin(), message.end(), '\n', ' ');
  Fail(name, message);
}

// Sizes and strides in cuDNN's order, N C H W or O I H W, of memory in the order N H W C.
Attributes& SetLayout(Attributes& tensor, int64_t n, int64_t h, int64_t w, int64_t c,
                      int64_t pixel_stride) {
  return tensor.set_dim({n, c, h, w})
      .set_stride({h * w * pixel_stride, 1, w * pixel_stride, pixel_stride});
}

Attributes& SetLayout(Attributes& tensor, const ImageLayout& image) {
  return SetLayout(tensor, image.batch, image.height, image.width, image.channels,
                   image.pixel_stride);
}

Attributes& SetWeightLayout(Attributes& tensor, const ConvolutionProblem& problem) {
  return SetLayout(tensor, problem.y.channels, problem.kernel, problem.kernel,
                   problem.channels_per_group, problem.channels_per_group);
}

void RequireVersion() {
  if (cudnnGetVersion() / 10000 >= CUDNN_MAJOR) return;
  throw Error(ExitCode::kDevice,
              fmt::format("{} is loaded, Convoy was built with cuDNN {}.{}.{}", CudnnVersion(),
                          CUDNN_MAJOR, CUDNN_MINOR, CUDNN_PATCHLEVEL),
              "install that version, or put it first in LD_LIBRARY_PATH");
}

class GraphBuilder {
 public:
  GraphBuilder(const ConvolutionProblem& problem, Graph& graph) : problem_(problem), graph_(graph) {
    graph_.set_io_data_type(DataTypeOf(problem.dtype))
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
  }

  void Build() {
    switch (problem_.pass) {
      case ProductPass::kForward:
        return BuildForward();
      case ProductPass::kBackwardData:
        return BuildBackwardData();
      case ProductPass::kBackwardWeights:
        return BuildBackwardWeights();
    }
  }

 private:
  void BuildForward() {
    TensorHandle y = graph_.conv_fprop(X(), Weight(), Settings<fe::graph::Conv_fprop_attributes>());
    if (problem_.adds_bias) {
      Attributes bias = Operand(kBias, "bias");
      SetLayout(bias, 1, 1, 1, problem_.y.channels, problem_.y.channels);
      y = graph_.pointwise(y, graph_.tensor(bias), Pointwise(fe::PointwiseMode_t::ADD));
    }
    if (problem_.relu) y = graph_.pointwise(y, Pointwise(fe::PointwiseMode_t::RELU_FWD));
    SetLayout(Result(y), problem_.y);
  }

  void BuildBackwardData() {
    TensorHandle dx =
        graph_.conv_dgrad(Dy(), Weight(), Settings<fe::graph::Conv_dgrad_attributes>());
    // It cannot be told from dy: several sizes of x give the same size of y.
    SetLayout(*dx, problem_.x);
    if (problem_.masks) dx = graph_.pointwise(dx, X(), Pointwise(fe::PointwiseMode_t::RELU_BWD));
    SetLayout(Result(dx), problem_.x);
  }

  void BuildBackwardWeights() {
    const TensorHandle dw =
        graph_.conv_wgrad(Dy(), X(), Settings<fe::graph::Conv_wgrad_attributes>());
    SetWeightLayout(Result(dw), problem_);
  }

  Attributes Operand(ConvolutionOperand operand, const char* name) const {
    return Attributes()
        .set_name(name)
        .set_uid(IdOf(operand))
        .set_alignment(problem_.alignment[operand])
        .set_data_type(DataTypeOf(problem_.dtype));
  }
  TensorHandle X() {
    Attributes x = Operand(kX, "x");
    return graph_.tensor(SetLayout(x, problem_.x));
  }
  TensorHandle Weight() {
    Attributes weight = Operand(kWeight, "weight");
    return graph_.tensor(SetWeightLayout(weight, problem_));
  }
  TensorHandle Dy() {
    Attributes dy = Operand(kDy, "dy");
    return graph_.tensor(SetLayout(dy, problem_.y));
  }
  Attributes& Result(const TensorHandle& tensor) const {
    return tensor->set_output(true)
        .set_name("result")
        .set_uid(IdOf(kResult))
        .set_alignment(problem_.alignment[kResult])
        .set_data_type(DataTypeOf(problem_.result_dtype));
  }

  template <typename ConvolutionAttributes>
  ConvolutionAttributes Settings() const {
    ConvolutionAttributes settings;
    settings.set_pre_padding({problem_.padding.top, problem_.padding.left})
        .set_post_padding({problem_.padding.bottom, problem_.padding.right})
        .set_stride({problem_.stride, problem_.stride})
        .set_dilation({1, 1});
    return settings;
  }
  static fe::graph::Pointwise_attributes Pointwise(fe::PointwiseMode_t mode) {
    return fe::graph::Pointwise_attributes().set_mode(mode);
  }

  const ConvolutionProblem& problem_;
  Graph& graph_;
};

}  // namespace

std::string CudnnVersion() {
  const size_t version = cudnnGetVersion();
  return fmt::format("cuDNN {}.{}.{}", version / 10000, version % 10000 / 100, version % 100);
}

struct CudnnContext::Parts {
  cudnnHandle_t handle = nullptr;
  void* stream = nullptr;
  std::shared_ptr<const fe::DeviceProperties> described;  // null: the device of the handle
};

CudnnContext::CudnnContext(int device) : parts_(std::make_unique<Parts>()) {
  RequireVersion();
  CONVOY_CUDA_CALL(cudaSetDevice(device));
  Require(cudnnCreate(&parts_->handle), "cudnnCreate");
}

CudnnContext::CudnnContext(const std::string& properties) : parts_(std::make_unique<Parts>()) {
  RequireVersion();
  auto described = std::make_shared<fe::DeviceProperties>();
  RequireGood("device properties", [&] {
    return described->deserialize({properties.begin(), properties.end()});
  });
  parts_->described = std::move(described);
}

CudnnContext::~CudnnContext() {
  if (parts_->handle != nullptr) cudnnDestroy(parts_->handle);
}

void CudnnContext::Use(Stream& stream) {
  if (stream.native_handle() == parts_->stream) return;
  Require(cudnnSetStream(parts_->handle, static_cast<cudaStream_t>(stream.native_handle())),
          "cudnnSetStream");
  parts_->stream = stream.native_handle();
}

struct ConvolutionGraph::Parts {
  ConvolutionProblem problem;
  Graph graph;
  std::map<std::string, int64_t> indices;  // of the plans that were proposed
};

ConvolutionGraph::ConvolutionGraph(const ConvolutionProblem& problem)
    : parts_(std::make_unique<Parts>()) {
  parts_->problem = problem;
  RequireGood("validate", [&] {
    GraphBuilder(parts_->problem, parts_->graph).Build();
    return parts_->graph.validate();
  });
}

ConvolutionGraph::~ConvolutionGraph() = default;

std::vector<std::string> ConvolutionGraph::ProposePlans(CudnnContext& context,
                                                        const PlanLimits& limits) {
  Graph& graph = parts_->graph;
  RequireGood("build_operation_graph", [&] {
    const CudnnContext::Parts& parts = *context.parts_;
    if (!parts.described) return graph.build_operation_graph(parts.handle);
    graph.set_device_properties(parts.described);
    return graph.build_operation_graph();
  });
  RequireGood("create_execution_plans", [&] {
    return graph.create_execution_plans({fe::HeurMode_t::A, fe::HeurMode_t::FALLBACK});
  });
  graph.deselect_workspace_greater_than(limits.workspace_bytes);
  std::vector<fe::NumericalNote_t> refused = {fe::NumericalNote_t::NONDETERMINISTIC,
                                              fe::NumericalNote_t::REDUCED_PRECISION_REDUCTION};
  if (parts_->problem.dtype == DType::kFloat32) {
    refused.push_back(fe::NumericalNote_t::DOWN_CONVERT_INPUTS);
  }
  if (!limits.tensor_cores) refused.push_back(fe::NumericalNote_t::TENSOR_CORE);
  graph.deselect_numeric_notes(refused);
  std::vector<std::string> names;
  for (int64_t i = 0; i < graph.get_execution_plan_count(); ++i) {
    std::string name;
    RequireGood("get_plan_name", [&] { return graph.get_plan_name_at_index(i, name); });
    if (parts_->indices.emplace(name, i).second) names.push_back(name);
  }
  return names;
}

int64_t ConvolutionGraph::BuildPlan(const std::string& name) {
  const int64_t index = parts_->indices.at(name);
  RequireGood("build_plan", [&] { return parts_->graph.build_plan_at_index(index); });
  int64_t bytes = 0;
  RequireGood("get_workspace_size",
              [&] { return parts_->graph.get_workspace_size_plan_at_index(index, bytes); });
  return bytes;
}

void ConvolutionGraph::Execute(CudnnContext& context, const std::string& name,
                               const ConvolutionMemory& memory, void* workspace) const {
  std::unordered_map<int64_t, void*> addresses;
  for (int i = 0; i < kConvolutionOperands; ++i) {
    const auto operand = static_cast<ConvolutionOperand>(i);
    if (memory[operand] != nullptr) addresses.emplace(IdOf(operand), memory[operand]);
  }
  RequireGood("execute", [&] {
    return parts_->graph.execute_plan_at_index(context.parts_->handle, addresses, workspace,
                                               parts_->indices.at(name));
  });
}

}  // namespace convoy::cuda
