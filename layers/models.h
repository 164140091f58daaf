// layers/models.h - the networks that Convoy knows by name.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "layers/spec.h"

namespace convoy {

// What a user may change in a model. Strings are as on the command line.
struct ModelOptions {
  std::optional<int> classes;
  std::optional<int> input;               // height and width
  std::optional<std::string> activation;  // relu | tanh | sigmoid | leaky-relu | elu
  std::optional<std::string> norm;        // lrn | lrn:alpha=1e-4,.. | bn | none
  std::optional<std::string> pooling;     // max3s2 | max2s2 | avg3s2 | ...: kind, kernel, stride
  std::optional<std::string> dropout;     // rate, or 2012:rate, or inverted:rate; 0 removes it
  std::optional<std::string> init;        // paper | he | xavier | torch
  double label_smoothing = 0;
};

struct ModelInfo {
  std::string name;
  std::string summary;  // one line for --help
};

// In the order in which the help shows them.
std::vector<ModelInfo> Models();

// Throws (kUsage) for an unknown name or an option that the model cannot take, naming the nearest
// valid one.
NetworkSpec MakeModel(const std::string& name, const ModelOptions& options = {});

}  // namespace convoy
