#include "trainer/step/rank_model.h"

#include <algorithm>

#include "core/host/clock.h"
#include "layers/phase_timer.h"

namespace convoy {

RankModel::RankModel(Backend& backend, const RankPlan& plan, const ParameterStore& store,
                     ProcessGrid& grid, const Options& options)
    : backend_(backend),
      plan_(plan),
      grid_(grid),
      options_(options),
      evaluation_(EvaluationProgram(plan)) {
  backend.RequireDType(options.dtype);
  input_ = backend.CompileInput({.crop = plan.network.input,
                                 .batch = options.rows,
                                 .dtype = options.dtype,
                                 .mean = options.preprocessing.mean,
                                 .standard_deviation = options.preprocessing.standard_deviation});
  int64_t exchange_elements = 0;
  for (const Stage& stage : plan_.stages) {
    CompiledStage compiled;
    if (const auto* exchange = std::get_if<Exchange>(&stage)) {
      compiled.exchange = exchange;
      compiled.group = &grid.Along(exchange->axes);
      const int64_t blocks = compiled.group->size() + 1;
      exchange_elements =
          std::max(exchange_elements, blocks * RowsOfPart(*exchange) * exchange->PartCapacity());
    } else {
      compiled.segment = &std::get<SegmentPlan>(stage);
      compiled.group = &grid.StatisticsAlong(compiled.segment->statistics);
      compiled.network = backend.Compile(compiled.segment->spec,
                                         {.dtype = options.dtype,
                                          .batch = compiled.segment->shards * options.rows,
                                          .training = options.training,
                                          .accumulates = options.accumulates},
                                         store.arenas());
    }
    stages_.push_back(std::move(compiled));
  }
  if (exchange_elements > 0) {
    // Memory is given out zeroed.
    if (!plan_.HasSegmentAfterEverySum()) {
      zeros_ = options.exchange_memory(exchange_elements * SizeOf(options.dtype));
    }
    exchange_memory_ = options.exchange_memory(exchange_elements * SizeOf(options.dtype));
  }
  if (plan.grid.shards > 1) {
    const auto allocate = [&](Buffer& memory, DType dtype) {
      const Shape blocks{plan.grid.shards, options.rows};
      memory = options.exchange_memory(blocks.count() * SizeOf(dtype));
      return ViewOf(memory, dtype, blocks);
    };
    gathered_rows_ = {.labels = allocate(labels_, DType::kInt32),
                      .weights = allocate(weights_, DType::kFloat32),
                      .positions = allocate(positions_, DType::kInt64)};
  }
}

void RankModel::Prefetch(const Batch& batch) { input_->Prefetch(batch); }

void RankModel::Load(Stream& stream, const Batch& batch) {
  CONVOY_CHECK(batch.shape[0] == options_.rows, "a batch of {} rows for a model of {}",
               batch.shape[0], options_.rows);
  input_->Load(stream, batch, stages_.front().network->input());
}

void RankModel::Run(const steps::GatherRows&, const StepContext& context) {
  const PhaseTimer timer(context, "rows", "exchange forward");
  Communicator& shards = grid_.Along(Axis::kShard);
  const RowInfo own = input_->rows();
  AllGather(*context.stream, shards, own.labels, gathered_rows_.labels, "labels");
  AllGather(*context.stream, shards, own.weights, gathered_rows_.weights, "weights");
  AllGather(*context.stream, shards, own.positions, gathered_rows_.positions, "positions");
}

void RankModel::Run(const steps::Forward& operation, const StepContext& context) {
  CompiledStage& stage = StageAt(operation.stage);
  stage.network->Forward(ContextOf(stage, context));
}

void RankModel::Run(const steps::MoveActivations& operation, const StepContext& context) {
  const CompiledStage& stage = StageAt(operation.stage);
  // A rank without a share of the layers between two exchanges has no segment there; and only the
  // owner's next segment reads what is gathered for one, another tower ends here.
  const Network* const before = StageAt(operation.stage - 1).network.get();
  const bool has_next = static_cast<size_t>(operation.stage) + 1 < stages_.size();
  const Network* const after = has_next ? StageAt(operation.stage + 1).network.get() : nullptr;
  if (operation.direction == Direction::kForward) {
    GatherForward(context, stage, before != nullptr ? before->output() : Tensor{},
                  after != nullptr ? after->input() : Tensor{});
  } else if (stage.runs_backward) {
    ScatterBackward(context, stage, after != nullptr ? after->input_gradient() : Tensor{},
                    before != nullptr ? before->output_gradient() : Tensor{});
  }
}

void RankModel::Run(const steps::Backward& operation, const StepContext& context,
                    BackwardObserver& observer) {
  CompiledStage& stage = StageAt(operation.stage);
  if (!stage.runs_backward) return;
  stage.network->Backward(ContextOf(stage, context), observer);
}

void RankModel::Evaluate(Stream& stream, const Batch& batch) {
  const StepContext context{.stream = &stream, .training = false};
  for (const StepOperation& operation : evaluation_) {
    std::visit(
        [&](const auto& one) {
          using Kind = std::decay_t<decltype(one)>;
          if constexpr (std::is_same_v<Kind, steps::Load>) {
            Load(stream, batch);
          } else if constexpr (requires { Run(one, context); }) {
            Run(one, context);
          }
        },
        operation);
  }
}

// The context of a segment: the rows that it runs, and over whom its batch norm sums.
StepContext RankModel::ContextOf(const CompiledStage& stage, const StepContext& context) {
  StepContext own = context;
  own.rows = stage.segment->shards > 1 ? gathered_rows_ : input_->rows();
  if (stage.group->size() > 1) {
    own.reduce_statistics = [this, group = stage.group](Stream& stream, const Tensor& values) {
      const Clock::time_point start = Clock::now();
      group->AllReduce(stream, values, ReduceOp::kSum, "batch norm").Wait(stream);
      statistics_wait_s_ += SecondsSince(start);
    };
  }
  return own;
}

int64_t RankModel::RowsOfPart(const Exchange& exchange) const {
  return exchange.shards_per_part * options_.rows;
}

// [row parts, channel parts, elements of a part], and after them room for one part more.
Tensor RankModel::BlocksOf(const Exchange& exchange) const {
  return ViewOf(
      exchange_memory_, options_.dtype,
      {exchange.row_parts, exchange.channel_parts, RowsOfPart(exchange) * exchange.PartCapacity()});
}

// Calls `call` for the rows of every row part: with their blocks, one per channel part, and with
// their rows in `whole`.
void RankModel::ForEachRowPart(
    const Exchange& exchange, const Tensor& whole,
    const std::function<void(const Tensor& blocks, const Tensor& rows)>& call) const {
  const Tensor blocks = BlocksOf(exchange);
  const int64_t rows = RowsOfPart(exchange);
  const Shape block = exchange.whole
                          .With(exchange.whole.rank() - 1,
                                ShareOf(exchange.whole.back(), exchange.channel_parts, 0).count)
                          .Prepend(rows);
  const int64_t block_elements = exchange.channel_parts * block.count();
  const int64_t row_elements = rows * exchange.whole.count();
  for (int64_t part = 0; part < exchange.row_parts; ++part) {
    call(blocks.Range(part * block_elements, block_elements)
             .Reshape(block.Prepend(exchange.channel_parts)),
         whole.Range(part * row_elements, row_elements).Reshape(exchange.whole.Prepend(rows)));
  }
}

// Puts this rank's own block into its place and gathers the others: peers on this host can read it
// there.
void RankModel::AllGather(Stream& stream, Communicator& group, const Tensor& own,
                          const Tensor& blocks, const char* what) {
  if (own) stream.Copy(group.OwnBlockOf(blocks).data, own.data, own.bytes());
  WaitFor(group.AllGatherInPlace(stream, blocks, what), stream);
}

void RankModel::GatherForward(const StepContext& context, const CompiledStage& stage,
                              const Tensor& part, const Tensor& whole) {
  const Exchange& exchange = *stage.exchange;
  const PhaseTimer timer(context, exchange.name, "exchange forward");
  Stream& stream = *context.stream;
  const Tensor blocks = BlocksOf(exchange);
  if (exchange.kind == ExchangeKind::kGatherToOwner) {
    WaitFor(stage.group->Gather(stream, part, blocks, 0, exchange.name.c_str()), stream);
  } else {
    AllGather(stream, *stage.group, part, blocks, exchange.name.c_str());
  }
  if (!whole) return;
  ForEachRowPart(exchange, whole, [&](const Tensor& part_blocks, const Tensor& rows) {
    backend_.ConcatenateChannels(stream, part_blocks, rows);
  });
}

void RankModel::ScatterBackward(const StepContext& context, const CompiledStage& stage,
                                const Tensor& whole_gradient, const Tensor& part_gradient) {
  const Exchange& exchange = *stage.exchange;
  const PhaseTimer timer(context, exchange.name, "exchange backward");
  Stream& stream = *context.stream;
  Communicator& group = *stage.group;
  const Tensor blocks = BlocksOf(exchange);
  if (whole_gradient) {
    ForEachRowPart(exchange, whole_gradient, [&](const Tensor& part_blocks, const Tensor& rows) {
      backend_.SplitChannels(stream, rows, part_blocks);
    });
  }
  const int64_t block = blocks.count() / group.size();
  switch (exchange.kind) {
    case ExchangeKind::kGatherToOwner:
      return WaitFor(group.Scatter(stream, blocks, part_gradient, 0, exchange.name.c_str()),
                     stream);
    case ExchangeKind::kGatherCopies: {
      if (!part_gradient) return;
      const Tensor own = group.OwnBlockOf(blocks).Range(0, part_gradient.count());
      return stream.Copy(part_gradient.data, own.data, own.bytes());
    }
    case ExchangeKind::kAllGather:
      break;
  }
  // A part that is short, or empty, has room for a whole block after the others.
  const bool is_short = !part_gradient || part_gradient.count() < block;
  const Tensor sum = is_short ? ViewOf(exchange_memory_, options_.dtype, {blocks.count() + block})
                                    .Range(blocks.count(), block)
                              : part_gradient;
  const Tensor own = whole_gradient ? blocks : ViewOf(zeros_, options_.dtype, blocks.shape);
  WaitFor(group.ReduceScatter(stream, own, sum, exchange.name.c_str()), stream);
  if (is_short && part_gradient) stream.Copy(part_gradient.data, sum.data, part_gradient.bytes());
}

void RankModel::WaitFor(Request request, Stream& stream) {
  const auto start = Clock::now();
  request.Wait(stream);
  exchange_wait_s_ += SecondsSince(start);
}

Tensor RankModel::loss_sums() const {
  return plan_.counts_loss() ? stages_.back().network->loss_sums() : Tensor{};
}

Tensor RankModel::probabilities() const {
  if (!plan_.has_loss || plan_.place.tower != 0) return {};
  const Tensor all = stages_.back().network->output();
  const int64_t classes = all.shape.back(), elements = options_.rows * classes;
  const bool has_all_rows = stages_.back().segment->shards > 1;
  return all.Range(has_all_rows ? plan_.place.shard * elements : 0, elements)
      .Reshape({options_.rows, classes});
}

std::vector<double> RankModel::ReadProbabilities(Stream& stream) const {
  const Tensor device = probabilities();
  std::vector<double> values(static_cast<size_t>(device ? device.count() : 0));
  if (!device) return values;
  if (device.dtype == DType::kFloat64) {
    backend_.CopyToHost(stream, device, values.data());
  } else {
    std::vector<float> single(values.size());
    backend_.CopyToHost(stream, device, single.data());
    std::copy(single.begin(), single.end(), values.begin());
  }
  return values;
}

void RankModel::SetLearning(const std::vector<bool>& learns) {
  // Asked of the uncut network: a rank that has no part of the layers that learn takes part in the
  // exchanges of the others all the same.
  const auto learns_before = [&](int layer) {
    return std::any_of(learns.begin(), learns.begin() + layer, [](bool one) { return one; });
  };
  for (CompiledStage& stage : stages_) {
    if (stage.exchange != nullptr) {
      stage.runs_backward = learns_before(stage.exchange->reader_index);
      continue;
    }
    std::vector<bool> item_learns;
    for (const SegmentSpec::Item& item : stage.segment->spec.items) {
      item_learns.push_back(learns.at(static_cast<size_t>(item.uncut_index)));
    }
    const bool learns_below = learns_before(stage.segment->spec.items.front().uncut_index);
    stage.network->SetLearning(item_learns, learns_below);
    stage.runs_backward = learns_below || std::find(item_learns.begin(), item_learns.end(), true) !=
                                              item_learns.end();
  }
}

Tensor RankModel::Activation(const std::string& layer) const {
  for (const CompiledStage& stage : stages_) {
    if (!stage.network) continue;
    const auto& items = stage.segment->spec.items;
    for (size_t i = 0; i < items.size(); ++i) {
      if (items[i].layer.name == layer) return stage.network->Activation(static_cast<int>(i));
    }
  }
  return {};
}

std::vector<Network*> RankModel::networks() const {
  std::vector<Network*> networks;
  for (const CompiledStage& stage : stages_) {
    if (stage.network) networks.push_back(stage.network.get());
  }
  return networks;
}

}  // namespace convoy
