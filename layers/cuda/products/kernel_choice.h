// layers/cuda/products/kernel_choice.h - which of the vendor's kernels computes a product: the one
// that was chosen before, or the fastest of those that run. Knows no vendor.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "layers/cuda/products/library.h"

namespace convoy::cuda {

// One way to compute a product.
struct KernelCandidate {
  std::string name;  // the same in every run on the same kind of device with the same libraries
  // Throws (kDevice) if the library refuses.
  std::function<std::unique_ptr<BoundProduct>()> make;
};

// Ways of one kind, the most promising first.
struct CandidateGroup {
  std::vector<KernelCandidate> candidates;
  bool rounds = false;  // an fp32 result, to the type of the operands
};

// What `list` gives. If it throws (kDevice), one candidate that tells why: others may work.
std::vector<KernelCandidate> CandidatesOrRefusal(
    const std::string& kind, const std::function<std::vector<KernelCandidate>()>& list);

class KernelChooser {
 public:
  // The seconds that one run takes. Throws (kDevice) if it fails.
  using Measure = std::function<double(BoundProduct&)>;

  // `given` is used if it names a candidate that there still is.
  KernelChooser(KernelChoices given, Measure measure);

  // `product` identifies the problem: layer, pass, sizes and types. `prepare` is called before its
  // candidates are measured. Throws (kDevice), naming the product, if no candidate runs, or if the
  // given one fails: another would round differently than on the ranks on which it works.
  std::unique_ptr<BoundProduct> Choose(
      const std::string& product, const std::vector<CandidateGroup>& groups,
      const std::function<void()>& prepare = [] {});

  // Given too, from here on; instead of what was given or chosen for the same product.
  void Use(const KernelChoices& given);
  // Returns how the products are computed that were asked for.
  const KernelChoices& choices() const { return choices_; }
  // Of the products that were measured since the last call.
  std::vector<KernelMeasurement> TakeMeasurements() { return std::exchange(measurements_, {}); }

 private:
  std::unique_ptr<BoundProduct> MakeGiven(const std::string& product,
                                          const std::vector<CandidateGroup>& groups);

  KernelChoices given_;    // or chosen before
  KernelChoices choices_;  // in use
  std::vector<KernelMeasurement> measurements_;
  Measure measure_;
};

// Returns the median time of a few runs on `stream`, after one that is not counted.
double MeasureSeconds(Stream& stream, BoundProduct& product);

}  // namespace convoy::cuda
