// The library of products that cuDNN and cuBLASLt make.
#include <cuda_runtime.h>

#include <utility>

#include "core/cuda/check.h"
#include "layers/cuda/kernels/product_kernels.h"
#include "layers/cuda/kernels/workspace_pool.h"
#include "layers/cuda/products/cublaslt_matrix.h"
#include "layers/cuda/products/cudnn_convolution.h"
#include "layers/cuda/products/kernel_choice.h"
#include "layers/cuda/products/library.h"

namespace convoy::cuda {
namespace {

std::string Describe(const Tensor& tensor) {
  return tensor ? fmt::format("{}{}", NameOf(tensor.dtype), tensor.shape.ToString()) : "none";
}

// A failure names the product, not only the vendor's call.
class NamedProduct final : public BoundProduct {
 public:
  NamedProduct(std::string name, std::unique_ptr<BoundProduct> product)
      : name_(std::move(name)), product_(std::move(product)) {}

  void Run(Stream& stream) override {
    NamingFailure([&] { product_->Run(stream); });
  }
  void RunAdding(Stream& stream) override {
    NamingFailure([&] { product_->RunAdding(stream); });
  }

 private:
  template <typename Queue>
  void NamingFailure(Queue&& queue) const {
    try {
      queue();
    } catch (const Error& error) {
      throw Error(error.exit_code(), fmt::format("{}: {}", name_, error.message()), error.hint());
    }
  }

  std::string name_;
  std::unique_ptr<BoundProduct> product_;
};

class VendorLibrary final : public Library {
 public:
  explicit VendorLibrary(const CudaOptions& options)
      : options_(options),
        cudnn_(options.device),
        cublaslt_(options.device),
        stream_(MakeStream(options.device)),
        workspace_(options.device),
        packed_(options.device),
        chooser_(options.kernel_choices, [this](BoundProduct& product) {
          // Nothing else runs meanwhile, and nobody reads what measuring overwrites.
          CONVOY_CUDA_CALL(cudaDeviceSynchronize());
          return MeasureSeconds(*stream_, product);
        }) {}

  std::string Describe() const override {
    return fmt::format("{}, {}", CudnnVersion(), CublasLtVersion());
  }

  std::unique_ptr<BoundProduct> MakeConvolution(ProductPass pass, const Convolution& conv,
                                                const ProductOperands& operands) override {
    const bool tensor_cores = operands.x.dtype == DType::kBFloat16 || options_.tf32;
    const ConvolutionResources resources{
        .device = options_.device,
        .context = &cudnn_,
        .workspace = &workspace_,
        .packed = &packed_,
        .limits = {.tensor_cores = tensor_cores, .workspace_bytes = options_.workspace_bytes}};
    const Padding& padding = conv.padding;
    return Choose(pass, operands,
                  fmt::format(" stride {} padding {},{},{},{} groups {}", conv.stride, padding.top,
                              padding.left, padding.bottom, padding.right, conv.groups),
                  ConvolutionCandidates(pass, conv, operands, resources));
  }

  std::unique_ptr<BoundProduct> MakeFullyConnected(ProductPass pass,
                                                   const ProductOperands& operands) override {
    const MatrixResources resources{.device = options_.device,
                                    .context = &cublaslt_,
                                    .workspace = &workspace_,
                                    .workspace_bytes = options_.workspace_bytes,
                                    .tf32 = options_.tf32};
    return Choose(pass, operands, "", MatrixCandidates(pass, operands, resources));
  }

  KernelChoices choices() const override { return chooser_.choices(); }
  std::vector<KernelMeasurement> TakeMeasurements() override { return chooser_.TakeMeasurements(); }
  void UseChoices(const KernelChoices& choices) override { chooser_.Use(choices); }

 private:
  std::unique_ptr<BoundProduct> Choose(ProductPass pass, const ProductOperands& operands,
                                       const std::string& settings,
                                       const std::vector<CandidateGroup>& candidates) {
    const std::string name = fmt::format("{} {}", operands.name, NameOf(pass));
    const bool is_forward = pass == ProductPass::kForward;
    const bool adds_bias = is_forward && operands.bias;
    const bool sums_bias = pass == ProductPass::kBackwardWeights && operands.bias_gradient;
    const std::string problem = fmt::format(
        "{} x {} weight {} y {}{}{}{}{}{}", name, cuda::Describe(operands.x),
        cuda::Describe(operands.weight), cuda::Describe(operands.y), settings,
        adds_bias || sums_bias ? " bias" : "", is_forward && operands.relu ? " relu" : "",
        pass == ProductPass::kBackwardData && operands.mask_dx ? " mask" : "",
        options_.tf32 && operands.x.dtype == DType::kFloat32 ? " tf32" : "");
    return std::make_unique<NamedProduct>(name, chooser_.Choose(problem, candidates, [&] {
      FillWithNoise(operands.x, operands.dy);
    }));
  }

  // What measured products read beside the weights, which hold their values already. dy may be
  // empty.
  void FillWithNoise(const Tensor& x, const Tensor& dy) {
    CONVOY_CUDA_CALL(cudaDeviceSynchronize());
    cuda::FillWithNoise(*stream_, x);
    if (dy) cuda::FillWithNoise(*stream_, dy);
  }

  CudaOptions options_;
  CudnnContext cudnn_;
  CublasLtContext cublaslt_;
  std::unique_ptr<Stream> stream_;  // for measuring candidates
  WorkspacePool workspace_, packed_;
  KernelChooser chooser_;
};

}  // namespace

std::unique_ptr<Library> MakeLibrary(const CudaOptions& options) {
  return std::make_unique<VendorLibrary>(options);
}

}  // namespace convoy::cuda
