#include "trainer/ranks/step_verdict.h"

#include <cmath>
#include <iterator>

#include "trainer/ranks/agreement.h"

namespace convoy {

StepVerdict Agree(World& world, const StepReport& report) {
  double values[] = {report.loss.weight,
                     report.loss.loss,
                     report.loss.top1,
                     report.loss.top5,
                     report.non_finite ? 1.0 : 0.0,
                     report.stop ? 1.0 : 0.0,
                     report.checkpoint ? 1.0 : 0.0,
                     report.fault ? 1.0 : 0.0,
                     static_cast<double>(report.bad_samples)};
  HostStream stream;
  world.all()
      .AllReduce(stream, {values, DType::kFloat64, Shape{std::ssize(values)}}, ReduceOp::kSum,
                 "agreement on the step")
      .Wait(stream);
  if (values[7] > 0) {
    RunTogether(world, [&] {
      if (report.fault) throw Error(*report.fault);
    });
  }
  return {.loss = {values[0], values[1], values[2], values[3]},
          .non_finite = values[4] > 0,
          .stop = values[5] > 0,
          .checkpoint = values[6] > 0,
          .bad_samples = std::llround(values[8])};
}

}  // namespace convoy
