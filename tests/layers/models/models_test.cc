// The numbers of the reference networks: parameters, multiply-adds, neurons, shapes. The expected
// values are those of the published networks, not what this program printed.
#include "layers/models.h"

#include <gtest/gtest.h>

#include <map>

#include "core/error.h"
#include "layers/analysis.h"

namespace convoy {
namespace {

Shape OutputOf(const NetworkSpec& network, const std::string& layer) {
  for (const LayerSite& site : SitesOf(network)) {
    if (site.layer.name == layer) return site.output;
  }
  ADD_FAILURE() << "no layer " << layer;
  return {};
}

struct Published {
  std::string model;
  int64_t parameters;
  int64_t multiply_adds;  // 0: not published
};

class ModelNumbers : public ::testing::TestWithParam<Published> {};

TEST_P(ModelNumbers, ParametersAndMultiplyAddsAreThePublishedOnes) {
  const LayerCounts counts = CountsOf(MakeModel(GetParam().model));
  EXPECT_EQ(counts.parameters, GetParam().parameters);
  if (GetParam().multiply_adds > 0) {
    EXPECT_EQ(counts.multiply_adds, GetParam().multiply_adds);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, ModelNumbers,
                         ::testing::Values(Published{"alexnet2012", 60965224, 724406816},
                                           Published{"alexnet-half", 59798312, 391514384},
                                           Published{"alexnet-grouped", 60965224, 724406816},
                                           Published{"alexnet-owt", 61100840, 714188480},
                                           Published{"alexnet-torchvision", 61100840, 714188480},
                                           Published{"alexnet-fmnist", 46764746, 0},
                                           Published{"lenet5", 61706, 0},
                                           Published{"cifar10-quick", 145578, 0}),
                         [](const auto& instance) {
                           std::string name = instance.param.model;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

TEST(AlexNet2012, HasThePapersNeuronsShapesAndFlops) {
  const NetworkSpec network = MakeModel("alexnet2012");
  EXPECT_EQ(CountsOf(network).neurons, 659272);
  EXPECT_EQ(TrainingFlops(network), 4135610496);
  EXPECT_EQ(OutputOf(network, "conv1"), (Shape{55, 55, 96}));
  EXPECT_EQ(OutputOf(network, "pool1"), (Shape{27, 27, 96}));
  EXPECT_EQ(OutputOf(network, "conv2"), (Shape{27, 27, 256}));
  EXPECT_EQ(OutputOf(network, "pool2"), (Shape{13, 13, 256}));
  EXPECT_EQ(OutputOf(network, "conv4"), (Shape{13, 13, 384}));
  EXPECT_EQ(OutputOf(network, "pool5"), (Shape{6, 6, 256}));
}

TEST(AlexNet2012, Conv1IsPaddedAfterAsThe2012CodeRoundsSizesUp) {
  const auto padding = [](int input) {
    return std::get<Convolution>(MakeModel("alexnet2012", {.input = input}).layers.front().layer)
        .padding;
  };
  EXPECT_EQ(padding(224), (Padding{0, 0, 3, 3}));
  EXPECT_EQ(padding(227), (Padding{0, 0, 0, 0}));
  EXPECT_EQ(padding(225), (Padding{0, 0, 2, 2}));
}

TEST(AlexNet2012, PerLayerNumbersAreThoseOfTheReferenceTable) {
  const NetworkSpec network = MakeModel("alexnet2012");
  const std::map<std::string, std::pair<int64_t, int64_t>> expected = {
      {"conv1", {34944, 105415200}},  {"conv2", {307456, 223948800}},
      {"conv3", {885120, 149520384}}, {"conv4", {663936, 112140288}},
      {"conv5", {442624, 74760192}},  {"fc6", {37752832, 37748736}},
      {"fc7", {16781312, 16777216}},  {"fc8", {4097000, 4096000}}};
  size_t found = 0;
  for (const LayerSite& site : SitesOf(network)) {
    const LayerCounts counts = CountsOf(site);
    const std::string& name = site.layer.name;
    if (const auto row = expected.find(name); row != expected.end()) {
      ++found;
      EXPECT_EQ(counts.parameters, row->second.first) << name;
      EXPECT_EQ(counts.multiply_adds, row->second.second) << name;
    } else {
      EXPECT_EQ(counts.parameters, 0) << name;
    }
  }
  EXPECT_EQ(found, expected.size());
}

TEST(Models, PoolingSizesDifferBetweenRoundingUpAndDown) {
  const LayerSpec floor{"p", Pool{.rounding = Rounding::kFloor}};
  const LayerSpec ceil{"p", Pool{.rounding = Rounding::kCeil}};
  for (int64_t size : {55, 27, 13}) {
    EXPECT_EQ(OutputShape(floor, Shape{size, size, 1}), OutputShape(ceil, Shape{size, size, 1}));
  }
  EXPECT_EQ(OutputShape(floor, Shape{56, 56, 1})[0], 27);
  EXPECT_EQ(OutputShape(ceil, Shape{56, 56, 1})[0], 28);
}

TEST(Models, TheFashionMnistVariantEndsInFiveByFive) {
  EXPECT_EQ(OutputOf(MakeModel("alexnet-fmnist"), "pool5"), (Shape{5, 5, 256}));
}

TEST(Models, ClassesAndInputChangeTheCounts) {
  const NetworkSpec ten = MakeModel("alexnet2012", {.classes = 10});
  EXPECT_EQ(CountsOf(ten).parameters, 60965224 - 4097000 + 40970);
  EXPECT_EQ(CountsOf(MakeModel("alexnet2012", {.input = 227})).parameters, 60965224);
  EXPECT_LT(CountsOf(MakeModel("alexnet2012", {.input = 128})).parameters, 60965224);
}

TEST(Models, EveryModelBuildsAndEndsInTheLoss) {
  ASSERT_EQ(Models().size(), 9u);
  for (const ModelInfo& info : Models()) {
    const NetworkSpec network = MakeModel(info.name);
    EXPECT_TRUE(std::holds_alternative<SoftmaxCrossEntropy>(network.layers.back().layer))
        << info.name;
    EXPECT_EQ(SitesOf(network).back().output, Shape{network.classes});
  }
}

template <typename LayerKind>
int CountOf(const NetworkSpec& network) {
  int count = 0;
  for (const LayerSpec& layer : network.layers) {
    count += std::holds_alternative<LayerKind>(layer.layer) ? 1 : 0;
  }
  return count;
}

TEST(ModelOptions, ReplaceLayersAndKeepTheRest) {
  const NetworkSpec tanh = MakeModel("alexnet2012", {.activation = "tanh"});
  EXPECT_EQ(std::get<Activation>(tanh.layers[1].layer).kind, ActivationKind::kTanh);
  const NetworkSpec leaky = MakeModel("alexnet2012", {.activation = "leaky-relu:0.2"});
  EXPECT_EQ(std::get<Activation>(leaky.layers[1].layer).slope, 0.2);
  EXPECT_EQ(CountOf<Lrn>(MakeModel("alexnet2012", {.norm = "none"})), 0);
  EXPECT_EQ(CountOf<BatchNorm>(MakeModel("alexnet2012", {.norm = "bn"})), 2);
  EXPECT_EQ(CountOf<Dropout>(MakeModel("alexnet2012", {.dropout = "0"})), 0);
  const NetworkSpec pooled = MakeModel("alexnet2012", {.pooling = "avg2s2"});
  EXPECT_EQ(std::get<Pool>(pooled.layers[3].layer).kind, PoolKind::kAverage);
  EXPECT_EQ(std::get<Pool>(pooled.layers[3].layer).kernel, 2);
  const NetworkSpec dropped = MakeModel("alexnet2012", {.dropout = "inverted:0.3"});
  for (const LayerSpec& layer : dropped.layers) {
    if (const auto* dropout = std::get_if<Dropout>(&layer.layer)) {
      EXPECT_EQ(dropout->rate, 0.3);
      EXPECT_EQ(dropout->form, DropoutForm::kInverted);
    }
  }
}

TEST(ModelOptions, LrnTakesThePapersAlphaAndTheDividedOne) {
  const auto lrn = [](const std::string& norm) {
    return std::get<Lrn>(MakeModel("alexnet2012", {.norm = norm}).layers[2].layer);
  };
  EXPECT_DOUBLE_EQ(lrn("lrn").SquareSumFactor(), 2e-5);
  EXPECT_DOUBLE_EQ(lrn("lrn:alpha=1e-4").SquareSumFactor(), 1e-4);
  EXPECT_DOUBLE_EQ(lrn("lrn:alpha-over-size=1e-4,k=1").SquareSumFactor(), 2e-5);
  EXPECT_EQ(lrn("lrn:k=1").k, 1);
  EXPECT_EQ(lrn("lrn:k=1").groups, 2);
  EXPECT_THROW(lrn("lrn:gamma=1"), Error);
  EXPECT_THROW(lrn("lrn:size=4"), Error);
  EXPECT_THROW(lrn("none:k=1"), Error);
}

TEST(ModelOptions, PaperInitIsThatOfThePapersText) {
  const NetworkSpec network = MakeModel("alexnet2012", {.init = "paper"});
  std::map<std::string, double> biases;
  for (const LayerSpec& layer : network.layers) {
    if (const auto* conv = std::get_if<Convolution>(&layer.layer)) {
      EXPECT_EQ(conv->weight.init, (Init{InitKind::kGaussian, 0.01}));
      biases[layer.name] = conv->bias.init.value;
    } else if (const auto* fc = std::get_if<FullyConnected>(&layer.layer)) {
      EXPECT_EQ(fc->weight.init, (Init{InitKind::kGaussian, 0.01}));
      biases[layer.name] = fc->bias.init.value;
    }
  }
  EXPECT_EQ(biases, (std::map<std::string, double>{{"conv1", 0},
                                                   {"conv2", 1},
                                                   {"conv3", 0},
                                                   {"conv4", 1},
                                                   {"conv5", 1},
                                                   {"fc6", 1},
                                                   {"fc7", 1},
                                                   {"fc8", 0}}));
}

TEST(ModelOptions, WrongValuesAreUsageErrorsThatSayWhatIsRight) {
  const auto message = [](const std::string& model, const ModelOptions& options) -> std::string {
    try {
      MakeModel(model, options);
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kUsage);
      return error.what();
    }
    return "no error";
  };
  EXPECT_NE(message("alexnet2102", {}).find("did you mean alexnet2012?"), std::string::npos);
  EXPECT_NE(message("vgg", {}).find("the models are"), std::string::npos);
  EXPECT_NE(message("alexnet2012", {.activation = "swish"}).find("relu, tanh"), std::string::npos);
  EXPECT_NE(message("alexnet2012", {.pooling = "max3"}).find("max3s2"), std::string::npos);
  EXPECT_NE(message("alexnet2012", {.dropout = "1"}).find("[0, 1)"), std::string::npos);
  EXPECT_NE(message("alexnet2012", {.norm = "layer"}).find("bn or none"), std::string::npos);
  EXPECT_NE(message("lenet5", {.norm = "bn"}).find("no normalisation"), std::string::npos);
  EXPECT_NE(message("alexnet2012", {.init = "zeros"}).find("paper, he"), std::string::npos);
  EXPECT_NE(message("alexnet2012", {.input = 40}).find("--input"), std::string::npos);
  EXPECT_NE(message("alexnet2012", {.classes = 0}).find("at least 1"), std::string::npos);
}

}  // namespace
}  // namespace convoy
