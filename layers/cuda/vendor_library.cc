// The library of products that cuDNN and cuBLASLt make.
#include <cuda_runtime.h>

#include <utility>

#include "core/cuda/check.h"
#include "layers/cuda/cublaslt_matrix.h"
#include "layers/cuda/cudnn_convolution.h"
#include "layers/cuda/kernel_choice.h"
#include "layers/cuda/library.h"
#include "layers/cuda/product_kernels.h"
#include "layers/cuda/shared_memory.h"

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
    try {
      product_->Run(stream);
    } catch (const Error& error) {
      throw Error(error.exit_code(), fmt::format("{}: {}", name_, error.message()), error.hint());
    }
  }

 private:
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

  std::unique_ptr<BoundProduct> ConvolutionForward(const Convolution& conv,
                                                   const ConvolutionOperands& operands) override {
    return Choose(ConvolutionPass::kForward, conv, operands);
  }
  std::unique_ptr<BoundProduct> ConvolutionBackwardData(
      const Convolution& conv, const ConvolutionOperands& operands) override {
    return Choose(ConvolutionPass::kBackwardData, conv, operands);
  }
  std::unique_ptr<BoundProduct> ConvolutionBackwardWeights(
      const Convolution& conv, const ConvolutionOperands& operands) override {
    return Choose(ConvolutionPass::kBackwardWeights, conv, operands);
  }

  std::unique_ptr<BoundProduct> MatrixForward(const MatrixOperands& operands) override {
    return Choose(MatrixPass::kForward, operands);
  }
  std::unique_ptr<BoundProduct> MatrixBackwardData(const MatrixOperands& operands) override {
    return Choose(MatrixPass::kBackwardData, operands);
  }
  std::unique_ptr<BoundProduct> MatrixBackwardWeights(const MatrixOperands& operands) override {
    return Choose(MatrixPass::kBackwardWeights, operands);
  }

  KernelChoices choices() const override { return chooser_.choices(); }
  void UseChoices(const KernelChoices& choices) override { chooser_.Use(choices); }

 private:
  std::unique_ptr<BoundProduct> Choose(ConvolutionPass pass, const Convolution& conv,
                                       const ConvolutionOperands& operands) {
    const bool is_forward = pass == ConvolutionPass::kForward;
    const Padding& padding = conv.padding;
    const std::string product = fmt::format(
        "{} {} x {} weight {} y {} stride {} padding {},{},{},{} groups {}{}{}{}{}", operands.name,
        cuda::NameOf(pass), cuda::Describe(operands.x), cuda::Describe(operands.weight),
        cuda::Describe(operands.y), conv.stride, padding.top, padding.left, padding.bottom,
        padding.right, conv.groups, is_forward && operands.bias ? " bias" : "",
        is_forward && operands.relu ? " relu" : "",
        pass == ConvolutionPass::kBackwardData && operands.mask_dx ? " mask" : "",
        Precision(operands.x));
    const ConvolutionResources resources{
        .device = options_.device,
        .context = &cudnn_,
        .workspace = &workspace_,
        .packed = &packed_,
        .limits = {.tensor_cores = operands.x.dtype == DType::kBFloat16 || options_.tf32,
                   .workspace_bytes = options_.workspace_bytes}};
    return std::make_unique<NamedProduct>(
        fmt::format("{} {}", operands.name, cuda::NameOf(pass)),
        chooser_.Choose(product, ConvolutionCandidates(pass, conv, operands, resources),
                        [&] { FillWithNoise(operands.x, operands.dy); }));
  }

  std::unique_ptr<BoundProduct> Choose(MatrixPass pass, const MatrixOperands& operands) {
    const bool is_forward = pass == MatrixPass::kForward;
    const bool has_bias = pass == MatrixPass::kBackwardWeights
                              ? static_cast<bool>(operands.bias_gradient)
                              : is_forward && operands.bias;
    const std::string product = fmt::format(
        "{} {} x {} weight {} y {}{}{}{}{}", operands.name, cuda::NameOf(pass),
        cuda::Describe(operands.x), cuda::Describe(operands.weight), cuda::Describe(operands.y),
        has_bias ? " bias" : "", is_forward && operands.relu ? " relu" : "",
        pass == MatrixPass::kBackwardData && operands.mask_dx ? " mask" : "",
        Precision(operands.x));
    const MatrixResources resources{.device = options_.device,
                                    .context = &cublaslt_,
                                    .workspace = &workspace_,
                                    .workspace_bytes = options_.workspace_bytes,
                                    .tf32 = options_.tf32};
    return std::make_unique<NamedProduct>(
        fmt::format("{} {}", operands.name, cuda::NameOf(pass)),
        chooser_.Choose(product, MatrixCandidates(pass, operands, resources),
                        [&] { FillWithNoise(operands.x, operands.dy); }));
  }

  // What measured products read beside the weights, which hold their values already. dy may be
  // empty.
  void FillWithNoise(const Tensor& x, const Tensor& dy) {
    CONVOY_CUDA_CALL(cudaDeviceSynchronize());
    cuda::FillWithNoise(*stream_, x);
    if (dy) cuda::FillWithNoise(*stream_, dy);
  }

  const char* Precision(const Tensor& x) const {
    return options_.tf32 && x.dtype == DType::kFloat32 ? " tf32" : "";
  }

  CudaOptions options_;
  CudnnContext cudnn_;
  CublasLtContext cublaslt_;
  std::unique_ptr<Stream> stream_;  // where candidates are measured
  SharedMemory workspace_, packed_;
  KernelChooser chooser_;
};

}  // namespace

std::unique_ptr<Library> MakeLibrary(const CudaOptions& options) {
  return std::make_unique<VendorLibrary>(options);
}

}  // namespace convoy::cuda
