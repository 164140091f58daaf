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
    Step step;
    if (const auto* exchange = std::get_if<Exchange>(&stage)) {
      step.exchange = exchange;
      exchange_bytes =
          std::max(exchange_bytes, exchange->whole.count() * options.rows * SizeOf(options.dtype));
    } else {
      step.segment = &std::get<SegmentPlan>(stage);
      step.network = backend.Compile(
          step.segment->spec,
          {.dtype = options.dtype, .batch = options.rows, .training = options.training},
          store.arenas());
    }
    steps_.push_back(std::move(step));
  }
  if (exchange_bytes > 0) exchange_memory_ = options.exchange_memory(exchange_bytes);
}

void RankModel::Prefetch(const Batch& batch) { input_->Prefetch(batch); }

void RankModel::Load(Stream& stream, const Batch& batch) {
  CONVOY_CHECK(batch.shape[0] == options_.rows, "a batch of {} rows for a model of {}",
               batch.shape[0], options_.rows);
  input_->Load(stream, batch, steps_.front().network->input());
}

void RankModel::Forward(StepContext context) {
  context.rows = input_->rows();
  for (size_t i = 0; i < steps_.size(); ++i) {
    Step& step = steps_[i];
    if (step.network) {
      step.network->Forward(context);
      continue;
    }
    // The owner's next segment reads what was gathered; another tower ends here.
    const bool has_next = i + 1 < steps_.size();
    GatherForward(context, *step.exchange, steps_[i - 1].network->output(),
                  has_next ? steps_[i + 1].network->input() : Tensor{});
  }
}

void RankModel::Backward(StepContext context, BackwardObserver& observer) {
  context.rows = input_->rows();
  for (size_t i = steps_.size(); i-- > 0;) {
    Step& step = steps_[i];
    if (!step.runs_backward) break;
    if (step.network) {
      step.network->Backward(context, observer);
      continue;
    }
    const bool has_next = i + 1 < steps_.size();
    ScatterBackward(context, *step.exchange,
                    has_next ? steps_[i + 1].network->input_gradient() : Tensor{},
                    steps_[i - 1].network->output_gradient());
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
  return plan_.owns_loss ? steps_.back().network->loss_sums() : Tensor{};
}

Tensor RankModel::probabilities() const {
  return plan_.owns_loss ? steps_.back().network->output() : Tensor{};
}

void RankModel::SetLearning(const std::vector<bool>& learns) {
  // Whether a layer with parameters learns in this step or below it. The loss' owner asks about the
  // same layers as the other towers for every exchange, so that both sides agree to run it.
  bool learns_below = false;
  for (Step& step : steps_) {
    if (step.exchange != nullptr) {
      step.runs_backward = learns_below;
      continue;
    }
    std::vector<bool> item_learns;
    bool learns_here = false;
    for (const SegmentSpec::Item& item : step.segment->spec.items) {
      item_learns.push_back(learns.at(static_cast<size_t>(item.uncut_index)));
      learns_here |= item_learns.back();
    }
    step.network->SetLearning(item_learns, learns_below);
    learns_below |= learns_here;
    step.runs_backward = learns_below;
  }
}

Tensor RankModel::Activation(const std::string& layer) const {
  for (const Step& step : steps_) {
    if (!step.network) continue;
    const auto& items = step.segment->spec.items;
    for (size_t i = 0; i < items.size(); ++i) {
      if (items[i].layer.name == layer) return step.network->Activation(static_cast<int>(i));
    }
  }
  return {};
}

std::vector<Network*> RankModel::networks() const {
  std::vector<Network*> networks;
  for (const Step& step : steps_) {
    if (step.network) networks.push_back(step.network.get());
  }
  return networks;
}

}  // namespace convoy
