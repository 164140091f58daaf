#include "layers/cuda/products/kernel_choice.h"

#include <algorithm>
#include <utility>

#include "core/host/clock.h"

namespace convoy::cuda {
namespace {

// How many candidates of a product are measured: its groups share them, and each has a few.
constexpr size_t kMeasuredPerProduct = 12;
constexpr size_t kMeasuredPerGroup = 2;

// Measured together until they take so long, so that short kernels are told apart.
constexpr double kSampleSeconds = 200e-6;
constexpr double kMaxRunsPerSample = 20;
constexpr size_t kSamples = 5;

class FastestSoFar {
 public:
  // Measures the first `enough` candidates that run.
  void TryGroup(const CandidateGroup& group, size_t enough, const KernelChooser::Measure& measure) {
    size_t ran = 0;
    for (const KernelCandidate& candidate : group.candidates) {
      if (ran == enough) return;
      ++tried;
      if (Try(candidate, measure)) {
        ++ran;
      } else {
        ++refused;
      }
    }
  }

  std::unique_ptr<BoundProduct> product;
  std::string name, last_failure;
  int tried = 0, refused = 0;

 private:
  // Drops the candidate if it cannot be made or run; says whether it ran.
  bool Try(const KernelCandidate& candidate, const KernelChooser::Measure& measure) {
    try {
      std::unique_ptr<BoundProduct> made = candidate.make();
      const double seconds = measure(*made);
      if (product && seconds >= seconds_) return true;
      seconds_ = seconds;
      name = candidate.name;
      product = std::move(made);
      return true;
    } catch (const Error& error) {
      if (error.exit_code() != ExitCode::kDevice) throw;
      last_failure = fmt::format("{}: {}", candidate.name, error.message());
      return false;
    }
  }

  double seconds_ = 0;
};

}  // namespace

std::vector<KernelCandidate> CandidatesOrRefusal(
    const std::string& kind, const std::function<std::vector<KernelCandidate>()>& list) {
  try {
    return list();
  } catch (const Error& error) {
    if (error.exit_code() != ExitCode::kDevice) throw;
    return {{kind, [error]() -> std::unique_ptr<BoundProduct> { throw error; }}};
  }
}

KernelChooser::KernelChooser(KernelChoices given, Measure measure)
    : given_(std::move(given)), measure_(std::move(measure)) {}

void KernelChooser::Use(const KernelChoices& given) {
  for (const auto& [product, choice] : given) given_[product] = choice;
}

std::unique_ptr<BoundProduct> KernelChooser::MakeGiven(const std::string& product,
                                                       const std::vector<CandidateGroup>& groups) {
  const auto given = given_.find(product);
  if (given == given_.end()) return nullptr;
  for (const CandidateGroup& group : groups) {
    for (const KernelCandidate& candidate : group.candidates) {
      if (candidate.name != given->second) continue;
      try {
        std::unique_ptr<BoundProduct> made = candidate.make();
        choices_[product] = candidate.name;
        return made;
      } catch (const Error& error) {
        if (error.exit_code() != ExitCode::kDevice) throw;
        throw Error(
            ExitCode::kDevice,
            fmt::format("{}: the kernel {} that was chosen before fails: {}", product,
                        candidate.name, error.message()),
            "give --kernel-cache none to choose anew; a run that goes on needs the libraries "
            "and the free memory that it was started with");
      }
    }
  }
  return nullptr;
}

std::unique_ptr<BoundProduct> KernelChooser::Choose(const std::string& product,
                                                    const std::vector<CandidateGroup>& groups,
                                                    const std::function<void()>& prepare) {
  if (std::unique_ptr<BoundProduct> given = MakeGiven(product, groups)) return given;
  const Clock::time_point start = Clock::now();
  prepare();
  FastestSoFar fastest;
  const size_t per_group =
      std::max(kMeasuredPerGroup, kMeasuredPerProduct / std::max<size_t>(1, groups.size()));
  for (const CandidateGroup& group : groups) fastest.TryGroup(group, per_group, measure_);
  if (!fastest.product) {
    throw Error(ExitCode::kDevice,
                fmt::format("{}: none of {} kernels runs{}{}", product, fastest.tried,
                            fastest.tried == 0 ? "" : "; the last one, ", fastest.last_failure),
                "the library may be too old for this device; --dtype or --batch-size may help");
  }
  choices_[product] = given_[product] = fastest.name;
  measurements_.push_back({.product = product,
                           .choice = fastest.name,
                           .seconds = SecondsSince(start),
                           .tried = fastest.tried,
                           .refused = fastest.refused});
  return std::move(fastest.product);
}

double MeasureSeconds(Stream& stream, BoundProduct& product) {
  const auto seconds_of = [&](int runs) {
    const std::unique_ptr<Event> start = stream.Record();
    for (int i = 0; i < runs; ++i) product.Run(stream);
    const std::unique_ptr<Event> end = stream.Record();
    end->Synchronize();
    return end->SecondsSince(*start) / runs;
  };
  product.Run(stream);  // loads the kernel
  stream.Synchronize();
  const double estimate = std::max(1e-9, seconds_of(1));
  const int runs = static_cast<int>(std::clamp(kSampleSeconds / estimate, 1.0, kMaxRunsPerSample));
  std::vector<double> samples;
  for (size_t i = 0; i < kSamples; ++i) samples.push_back(seconds_of(runs));
  std::nth_element(samples.begin(), samples.begin() + kSamples / 2, samples.end());
  return samples[kSamples / 2];
}

}  // namespace convoy::cuda
