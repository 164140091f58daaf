#include "layers/cuda/products/cublaslt_matrix.h"

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <array>
#include <optional>
#include <utility>

#include "core/cuda/check.h"
#include "layers/cuda/kernels/operations.h"
#include "layers/cuda/kernels/product_kernels.h"

namespace convoy::cuda {
namespace {

constexpr int kAlgorithms = 8;  // that are asked for

void Require(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw Error(ExitCode::kDevice,
              fmt::format("cuBLASLt: {}: {}", call, cublasLtGetStatusString(status)));
}
#define CONVOY_CUBLASLT_CALL(call) Require((call), #call)

cudaDataType_t DataTypeOf(DType dtype) {
  return dtype == DType::kBFloat16 ? CUDA_R_16BF : CUDA_R_32F;
}

// A matrix as it lies in memory, row after row.
struct RowMajor {
  void* data = nullptr;
  DType dtype = DType::kFloat32;
  int64_t rows = 0, columns = 0;
  bool transposed = false;  // in the product
};

// result = left * right, or result + left * right. After it: result + bias per column, then the
// ReLU; or bias = the sum of the rows of the transposed `left`, the gradient of a bias.
struct MatrixProblem {
  RowMajor left, right, result;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  void* bias = nullptr;  // of the type of the result
};

template <typename Handle, cublasStatus_t (*destroy)(Handle)>
class Owned {
 public:
  Owned() = default;
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  ~Owned() {
    if (handle_ != nullptr) destroy(handle_);
  }
  Handle* slot() { return &handle_; }
  Handle get() const { return handle_; }

 private:
  Handle handle_ = nullptr;
};

class Layout {
 public:
  // cuBLASLt counts columns first, so that it sees every matrix transposed.
  explicit Layout(const RowMajor& matrix) {
    CONVOY_CUBLASLT_CALL(cublasLtMatrixLayoutCreate(
        layout_.slot(), DataTypeOf(matrix.dtype), static_cast<uint64_t>(matrix.columns),
        static_cast<uint64_t>(matrix.rows), matrix.columns));
  }
  cublasLtMatrixLayout_t get() const { return layout_.get(); }

 private:
  Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy> layout_;
};

// Returns the largest power of two that divides the address, at most 256: what cuBLASLt takes for
// granted.
uint32_t AlignmentOf(const void* data) {
  uint32_t alignment = 256;
  while (reinterpret_cast<uintptr_t>(data) % alignment != 0) alignment /= 2;
  return alignment;
}

// The transposed product, result^T = right^T * left^T: right is cuBLASLt's A and left its B.
class MatrixGraph {
 public:
  MatrixGraph(const MatrixProblem& problem, bool tf32)
      : problem_(problem), a_(problem.right), b_(problem.left), d_(problem.result) {
    CONVOY_CUBLASLT_CALL(cublasLtMatmulDescCreate(
        operation_.slot(), tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F));
    Set(CUBLASLT_MATMUL_DESC_TRANSA, Operation(problem.right));
    Set(CUBLASLT_MATMUL_DESC_TRANSB, Operation(problem.left));
    Set(CUBLASLT_MATMUL_DESC_EPILOGUE, problem.epilogue);
    if (problem.bias != nullptr) Set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, problem.bias);
  }

  const MatrixProblem& problem() const { return problem_; }
  // The most promising first. Throws (kDevice) if cuBLASLt has none.
  std::vector<cublasLtMatmulHeuristicResult_t> ProposeAlgorithms(
      const MatrixResources& resources) const {
    Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy> preference;
    CONVOY_CUBLASLT_CALL(cublasLtMatmulPreferenceCreate(preference.slot()));
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      CONVOY_CUBLASLT_CALL(
          cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof(value)));
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
           static_cast<uint64_t>(resources.workspace_bytes));
    // Parts of a sum are kept in fp32 and added in a fixed order by a kernel of their own, or there
    // are none: the same bits every time.
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
           static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, AlignmentOf(problem_.right.data));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, AlignmentOf(problem_.left.data));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, AlignmentOf(problem_.result.data));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, AlignmentOf(problem_.result.data));
    std::array<cublasLtMatmulHeuristicResult_t, kAlgorithms> results{};
    int count = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        static_cast<cublasLtHandle_t>(resources.context->handle()), operation_.get(), a_.get(),
        b_.get(), d_.get(), d_.get(), preference.get(), kAlgorithms, results.data(), &count);
    Require(status, "cublasLtMatmulAlgoGetHeuristic");
    std::vector<cublasLtMatmulHeuristicResult_t> usable;
    for (int i = 0; i < count; ++i) {
      if (results[static_cast<size_t>(i)].state == CUBLAS_STATUS_SUCCESS) {
        usable.push_back(results[static_cast<size_t>(i)]);
      }
    }
    return usable;
  }

  void Run(Stream& stream, const MatrixResources& resources, const cublasLtMatmulAlgo_t& algorithm,
           const Buffer* workspace, bool adds) const {
    const float one = 1, of_result = adds ? 1 : 0;
    CONVOY_CUBLASLT_CALL(
        cublasLtMatmul(static_cast<cublasLtHandle_t>(resources.context->handle()), operation_.get(),
                       &one, problem_.right.data, a_.get(), problem_.left.data, b_.get(),
                       &of_result, problem_.result.data, d_.get(), problem_.result.data, d_.get(),
                       &algorithm, workspace == nullptr ? nullptr : workspace->data(),
                       workspace == nullptr ? 0 : static_cast<size_t>(workspace->bytes()),
                       static_cast<cudaStream_t>(stream.native_handle())));
  }

 private:
  static cublasOperation_t Operation(const RowMajor& matrix) {
    return matrix.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
  }
  template <typename Value>
  void Set(cublasLtMatmulDescAttributes_t attribute, const Value& value) {
    CONVOY_CUBLASLT_CALL(
        cublasLtMatmulDescSetAttribute(operation_.get(), attribute, &value, sizeof(value)));
  }

  MatrixProblem problem_;
  Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy> operation_;
  Layout a_, b_, d_;
};

// What an own kernel does after a plain product.
enum class Finish { kNothing, kBiasRelu, kMask, kBiasGradient };

class MatrixProduct final : public BoundProduct {
 public:
  MatrixProduct(std::shared_ptr<const MatrixGraph> graph,
                const cublasLtMatmulHeuristicResult_t& chosen, Finish finish,
                const ProductOperands& operands, const MatrixResources& resources)
      : graph_(std::move(graph)),
        algorithm_(chosen.algo),
        finish_(finish),
        operands_(operands),
        resources_(resources),
        workspace_(resources.workspace->AtLeast(static_cast<int64_t>(chosen.workspaceSize))) {
    if (finish == Finish::kBiasGradient) {
      bias_gradient_.emplace(operands.dy, operands.bias_gradient, resources.device);
    } else if (operands.accumulates && graph_->problem().epilogue == CUBLASLT_EPILOGUE_BGRADB) {
      kept_memory_ = AllocateDevice(resources.device, operands.bias_gradient.bytes());
      kept_bias_gradient_ =
          ViewOf(kept_memory_, operands.bias_gradient.dtype, operands.bias_gradient.shape);
    }
  }

  void Run(Stream& stream) override { Run(stream, /*adds=*/false); }

  // cuBLASLt adds to the gradient of the weights, but writes over that of a bias.
  void RunAdding(Stream& stream) override {
    CONVOY_CHECK(
        operands_.accumulates && graph_->problem().result.data == operands_.weight_gradient.data,
        "this product was not made to add to its result");
    if (!kept_bias_gradient_) return Run(stream, /*adds=*/true);
    stream.Copy(kept_bias_gradient_.data, operands_.bias_gradient.data,
                kept_bias_gradient_.bytes());
    Run(stream, /*adds=*/true);
    AddGradient(stream, kept_bias_gradient_, operands_.bias_gradient);
  }

 private:
  void Run(Stream& stream, bool adds) {
    graph_->Run(stream, resources_, algorithm_, workspace_.get(), adds);
    switch (finish_) {
      case Finish::kNothing:
        return;
      case Finish::kBiasRelu:
        return AddBiasRelu(stream, operands_.bias, operands_.relu, operands_.y);
      case Finish::kMask:
        return MaskGradient(stream, operands_.x, operands_.dx);
      case Finish::kBiasGradient:
        return bias_gradient_->Run(stream, adds);
    }
  }

  std::shared_ptr<const MatrixGraph> graph_;
  cublasLtMatmulAlgo_t algorithm_;
  Finish finish_;
  ProductOperands operands_;
  MatrixResources resources_;
  std::shared_ptr<const Buffer> workspace_;
  std::optional<BiasGradient> bias_gradient_;
  Buffer kept_memory_;
  Tensor kept_bias_gradient_;  // what the product writes over while it adds
};

// cuBLASLt's own opaque description of an algorithm.
std::string NameOf(const cublasLtMatmulAlgo_t& algorithm) {
  std::string name;
  for (const uint64_t word : algorithm.data) name += fmt::format("{:016x}", word);
  return name;
}

std::vector<KernelCandidate> CandidatesOf(const std::string& kind, const MatrixProblem& problem,
                                          Finish finish, const ProductOperands& operands,
                                          const MatrixResources& resources) {
  std::vector<KernelCandidate> candidates;
  const bool tf32 = resources.tf32 && problem.left.dtype == DType::kFloat32;
  const auto graph = std::make_shared<const MatrixGraph>(problem, tf32);
  for (const cublasLtMatmulHeuristicResult_t& proposed : graph->ProposeAlgorithms(resources)) {
    candidates.push_back(
        {fmt::format("{}:{}", kind, NameOf(proposed.algo)),
         [graph, proposed, finish, operands, resources]() -> std::unique_ptr<BoundProduct> {
           return std::make_unique<MatrixProduct>(graph, proposed, finish, operands, resources);
         }});
  }
  return candidates;
}

RowMajor Matrix(const Tensor& tensor, int64_t rows, bool transposed = false) {
  return {.data = tensor.data,
          .dtype = tensor.dtype,
          .rows = rows,
          .columns = tensor.count() / rows,
          .transposed = transposed};
}

}  // namespace

std::string CublasLtVersion() {
  const size_t version = cublasLtGetVersion();
  return fmt::format("cuBLASLt {}.{}.{}", version / 10000, version % 10000 / 100, version % 100);
}

CublasLtContext::CublasLtContext(int device) {
  CONVOY_CUDA_CALL(cudaSetDevice(device));
  cublasLtHandle_t handle = nullptr;
  CONVOY_CUBLASLT_CALL(cublasLtCreate(&handle));
  handle_ = handle;
}

CublasLtContext::~CublasLtContext() { cublasLtDestroy(static_cast<cublasLtHandle_t>(handle_)); }

std::vector<CandidateGroup> MatrixCandidates(ProductPass pass, const ProductOperands& operands,
                                             const MatrixResources& resources) {
  const int64_t rows = operands.x.shape[0], out = operands.weight.shape[0];
  std::vector<CandidateGroup> groups;
  const auto add = [&](const char* kind, const MatrixProblem& problem, Finish finish) {
    groups.push_back({.candidates = CandidatesOrRefusal(kind, [&] {
                        return CandidatesOf(kind, problem, finish, operands, resources);
                      })});
  };
  switch (pass) {
    case ProductPass::kForward: {
      MatrixProblem problem{.left = Matrix(operands.x, rows),
                            .right = Matrix(operands.weight, out, /*transposed=*/true),
                            .result = Matrix(operands.y, rows)};
      const bool finishes = operands.bias || operands.relu;
      if (finishes) {
        MatrixProblem fused = problem;
        fused.epilogue = !operands.bias  ? CUBLASLT_EPILOGUE_RELU
                         : operands.relu ? CUBLASLT_EPILOGUE_RELU_BIAS
                                         : CUBLASLT_EPILOGUE_BIAS;
        const bool is_rounded = operands.y.dtype == DType::kBFloat16;
        fused.bias = is_rounded ? operands.compute_bias.data : operands.bias.data;
        add("fused", fused, Finish::kNothing);
      }
      add("plain", problem, finishes ? Finish::kBiasRelu : Finish::kNothing);
      break;
    }
    case ProductPass::kBackwardData:
      add("plain",
          {.left = Matrix(operands.dy, rows),
           .right = Matrix(operands.weight, out),
           .result = Matrix(operands.dx, rows)},
          operands.mask_dx ? Finish::kMask : Finish::kNothing);
      break;
    case ProductPass::kBackwardWeights: {
      const MatrixProblem problem{.left = Matrix(operands.dy, rows, /*transposed=*/true),
                                  .right = Matrix(operands.x, rows),
                                  .result = Matrix(operands.weight_gradient, out)};
      const bool has_bias = static_cast<bool>(operands.bias_gradient);
      if (has_bias) {
        // dy is cuBLASLt's B, whose columns are those of the layer's output.
        MatrixProblem fused = problem;
        fused.epilogue = CUBLASLT_EPILOGUE_BGRADB;
        fused.bias = operands.bias_gradient.data;
        add("fused", fused, Finish::kNothing);
      }
      add("plain", problem, has_bias ? Finish::kBiasGradient : Finish::kNothing);
      break;
    }
  }
  return groups;
}

}  // namespace convoy::cuda
