// layers/updater.h - an update rule compiled for the arenas of one rank.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/device/stream.h"
#include "core/tensor/tensor.h"
#include "layers/update_rules.h"

namespace convoy {

// The flat memory that an Updater works on; the caller's, and outlives it. All have the layout of
// the parameters, but for states of which only a part is here (UpdateRange::Part).
struct UpdateArenas {
  Tensor parameters;           // read and written
  Tensor compute;              // bf16 copy, written in the same pass; or `parameters`
  Tensor gradients;            // read
  std::vector<Tensor> states;  // read and written; as many as the rule has
  // int32 [1]. Set to 1 when a gradient or a new weight is not finite; when it is 1 already,
  // nothing is updated.
  Tensor non_finite;
};

// One parameter, or the part of it that this rank holds: elements [begin, begin + count) of the
// arenas, which are `rows` rows of the uncut tensor.
struct UpdateRange {
  int64_t begin = 0, count = 0;
  // For rules and options that need norms: the sum of squares of every row of the uncut network
  // has a place in one table.
  int64_t rows = 1;
  int64_t first_row = 0;                        // place of this part's first row in the table
  int64_t uncut_first_row = 0, uncut_rows = 1;  // places of the whole parameter
  bool adapts = true;                           // whether LARS adapts the rate to the norms

  // What Run updates: elements [begin, begin + count) of the arenas, with the states from element
  // `state_begin` of theirs. Norms are those of the whole range all the same.
  struct Part {
    int64_t begin = 0, count = 0, state_begin = 0;
  };
  std::optional<Part> part;  // unset: all of the range, and its states lie where its weights do
  Part Updated() const { return part.value_or(Part{begin, count, begin}); }
};

struct UpdateOptions {
  UpdateRule rule;
  // The gradient of the whole network is scaled down to this norm if its own is larger, as
  // PyTorch's clip_grad_norm_ does (the 1e-6 beside the norm included). 0: it is not.
  double clip_norm = 0;
  std::vector<UpdateRange> ranges;  // in arena order
  // Which neighbours in `ranges` each call of Run updates.
  struct Bucket {
    int64_t first = 0, count = 0;
  };
  std::vector<Bucket> buckets;
  int64_t table_rows = 0;  // rows of the uncut network
};

// Whether updates of these options wait for norms over the whole network.
bool NeedsNorms(const UpdateOptions& options);
// Whether a rule takes the norms of weights too.
bool NeedsWeightNorms(const UpdateRule& rule);

// Per step: SetRates; then, if the options need norms and all gradients are final, SumSquares, a
// sum of its result over the ranks that hold the other parts of this rank's parameters, and Scale;
// then Run for every bucket. What follows SetRates may be recorded and queued again.
class Updater {
 public:
  virtual ~Updater() = default;
  // One per range. Not to be called while `stream` is being recorded.
  virtual void SetRates(Stream& stream, std::span<const ParameterRates> rates) = 0;
  // fp64 [2, table_rows]: sums of squares of the rows of the gradients, then of the weights, which
  // only LARS needs; 0 for what is not needed, for frozen parameters, and for rows that other ranks
  // hold, so that a sum over these ranks changes no bit. A row is summed in one order whatever the
  // cut.
  virtual Tensor SumSquares(Stream& stream) = 0;
  // Takes the table that SumSquares returned, which by now has the rows of all ranks.
  virtual void Scale(Stream& stream) = 0;
  // Updates the ranges of a bucket, an index in UpdateOptions::buckets.
  virtual void Run(Stream& stream, int bucket) = 0;
};

}  // namespace convoy
