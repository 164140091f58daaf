#include "trainer/step/rank_model.h"

#include <algorithm>

#include "core/host/clock.h"
#include "layers/phase_timer.h"

namespace convoy {

RankModel::RankModel(Backend& backend, const RankPlan& plan, const ParameterStore& store,
                     Communicator& towers, const Options& options)
    : backend_(backend), plan_(plan), towers_(towers), options_(options) {
  backend.RequireDType(options.dtype);
  input_ = backend.CompileInput({.crop = plan.network.input,
                                 .batch = options.rows,
                                 .dtype = options.dtype,
                                 .mean = options.preprocessing.mean,
                                 .standard_deviation = options.preprocessing.standard_deviation});
  int64_t exchange_bytes = 0;
  for (const Stage& stage : plan_.stages) {
    CompiledStage compiled;
    if (const auto* exchange = std::get_if<Exchange>(&stage)) {
      compiled.exchange = exchange;
      exchange_bytes =
          std::max(exchange_bytes, exchange->whole.count() * options.rows * SizeOf(options.dtype));
    } else {
      compiled.segment = &std::get<SegmentPlan>(stage);
      compiled.network = backend.Compile(
          compiled.segment->spec,
          {.dtype = options.dtype, .batch = options.rows, .training = options.training},
          store.arenas());
    }
    stages_.push_back(std::move(compiled));
  }
  if (exchange_bytes > 0) exchange_memory_ = options.exchange_memory(exchange_bytes);
}

void RankModel::Prefetch(const Batch& batch) { input_->Prefetch(batch); }

void RankModel::Load(Stream& stream, const Batch& batch) {
  CONVOY_CHECK(batch.shape[0] == options_.rows, "a batch of {} rows for a model of {}",
               batch.shape[0], options_.rows);
  input_->Load(stream, batch, stages_.front().network->input());
}

void RankModel::Forward(StepContext context) {
  context.rows = input_->rows();
  for (size_t i = 0; i < stages_.size(); ++i) {
    CompiledStage& stage = stages_[i];
    if (stage.network) {
      stage.network->Forward(context);
      continue;
    }
    // The owner's next segment reads what was gathered; another tower ends here.
    const bool has_next = i + 1 < stages_.size();
    GatherForward(context, *stage.exchange, stages_[i - 1].network->output(),
                  has_next ? stages_[i + 1].network->input() : Tensor{});
  }
}

void RankModel::Backward(StepContext context, BackwardObserver& observer) {
  context.rows = input_->rows();
  for (size_t i = stages_.size(); i-- > 0;) {
    CompiledStage& stage = stages_[i];
    if (!stage.runs_backward) break;
    if (stage.network) {
      stage.network->Backward(context, observer);
      continue;
    }
    const bool has_next = i + 1 < stages_.size();
    ScatterBackward(context, *stage.exchange,
                    has_next ? stages_[i + 1].network->input_gradient() : Tensor{},
                    stages_[i - 1].network->output_gradient());
  }
}

Tensor RankModel::Blocks(const Exchange& exchange) const {
  return ViewOf(exchange_memory_, options_.dtype,
                exchange.part.Prepend(options_.rows).Prepend(towers_.size()));
}

void RankModel::GatherForward(const StepContext& context, const Exchange& exchange,
                              const Tensor& part, const Tensor& whole) {
  const PhaseTimer timer(context, exchange.name, "exchange forward");
  Stream& stream = *context.stream;
  const Tensor blocks = Blocks(exchange);
  WaitFor(exchange.kind == ExchangeKind::kAllGather
              ? towers_.AllGather(stream, part, blocks, exchange.name.c_str())
              : towers_.Gather(stream, part, blocks, exchange.owner, exchange.name.c_str()),
          stream);
  if (whole) backend_.ConcatenateChannels(stream, blocks, whole);
}

void RankModel::ScatterBackward(const StepContext& context, const Exchange& exchange,
                                const Tensor& whole_gradient, const Tensor& part_gradient) {
  const PhaseTimer timer(context, exchange.name, "exchange backward");
  Stream& stream = *context.stream;
  const Tensor blocks = Blocks(exchange);
  if (whole_gradient) backend_.SplitChannels(stream, whole_gradient, blocks);
  WaitFor(
      exchange.kind == ExchangeKind::kAllGather
          ? towers_.ReduceScatter(stream, blocks, part_gradient, exchange.name.c_str())
          : towers_.Scatter(stream, blocks, part_gradient, exchange.owner, exchange.name.c_str()),
      stream);
}

void RankModel::WaitFor(Request request, Stream& stream) {
  const auto start = Clock::now();
  request.Wait(stream);
  exchange_wait_s_ += SecondsSince(start);
}

Tensor RankModel::loss_sums() const {
  return plan_.owns_loss ? stages_.back().network->loss_sums() : Tensor{};
}

Tensor RankModel::probabilities() const {
  return plan_.owns_loss ? stages_.back().network->output() : Tensor{};
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
  // Whether a layer with parameters learns in this step or below it. The loss' owner asks about the
  // same layers as the other towers for every exchange, so that both sides agree to run it.
  bool learns_below = false;
  for (CompiledStage& stage : stages_) {
    if (stage.exchange != nullptr) {
      stage.runs_backward = learns_below;
      continue;
    }
    std::vector<bool> item_learns;
    bool learns_here = false;
    for (const SegmentSpec::Item& item : stage.segment->spec.items) {
      item_learns.push_back(learns.at(static_cast<size_t>(item.uncut_index)));
      learns_here |= item_learns.back();
    }
    stage.network->SetLearning(item_learns, learns_below);
    learns_below |= learns_here;
    stage.runs_backward = learns_below;
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
