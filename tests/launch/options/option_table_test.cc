#include "launch/options/option_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/host/files.h"
#include "launch/options/recipes.h"

namespace convoy {
namespace {

using testing::HasSubstr;

// A table of one option of each kind, and what it stored.
struct Example {
  int64_t batch_size = 0;
  double rate = 0;
  bool augment = false, json = false;
  int kind = 0;
  std::vector<std::string> groups, files;
  OptionTable table{"convoy example", "for tests"};

  Example() {
    table.Add("batch-size,b", "N", "128", "images of a step",
              store::Integer("batch-size", 1, 1000, [this](int64_t n) { batch_size = n; }));
    table.Add("lr", "RATE", "0.01", "learning rate",
              store::Number("lr", 0, 10, [this](double r) { rate = r; }));
    table.Add("augment", "on|off", "on", "crops", store::Switch("augment", &augment));
    table.Add("kind", "KIND", "one", "of several",
              store::Choice<int>("kind", {{"one", 1}, {"two", 2}}, &kind));
    table.AddRepeated("param-group", "TEXT", "several",
                      [this](const std::string& text) { groups.push_back(text); });
    table.AddFlag("json", "machine-readable", &json);
    table.Positional("FILE", "what to read", 0, &files);
    table.AcceptFiles();
  }

  bool Parse(const std::vector<const char*>& words) {
    return table.Parse(static_cast<int>(words.size()), words.data());
  }
  // The message of the refusal.
  std::string Refusal(const std::vector<const char*>& words) {
    try {
      Parse(words);
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kUsage);
      return std::string(error.what());
    }
    return "nothing was refused";
  }
};

TEST(OptionTable, GivesDefaultsWhereNothingIsSaid) {
  Example example;
  EXPECT_TRUE(example.Parse({}));
  EXPECT_EQ(example.batch_size, 128);
  EXPECT_EQ(example.rate, 0.01);
  EXPECT_TRUE(example.augment);
  EXPECT_EQ(example.kind, 1);
  EXPECT_FALSE(example.json);
  EXPECT_FALSE(example.table.Given("lr"));
}

TEST(OptionTable, TakesLongShortAndUnderscoredNames) {
  Example example;
  example.Parse({"-b", "32", "--kind=two", "--json", "a.jpg", "b.jpg"});
  EXPECT_EQ(example.batch_size, 32);
  EXPECT_EQ(example.kind, 2);
  EXPECT_TRUE(example.json);
  EXPECT_EQ(example.files, (std::vector<std::string>{"a.jpg", "b.jpg"}));

  Example other;
  other.Parse({"--batch_size", "16", "--param_group", "x_y lr=1"});
  EXPECT_EQ(other.batch_size, 16);
  EXPECT_EQ(other.groups, std::vector<std::string>{"x_y lr=1"});
  EXPECT_TRUE(other.table.Given("batch-size"));
}

TEST(OptionTable, NamesTheNearestOptionAndValue) {
  EXPECT_THAT(Example().Refusal({"--batchsize", "3"}), HasSubstr("--batch-size"));
  EXPECT_THAT(Example().Refusal({"--kind", "tow"}), HasSubstr("two"));
}

TEST(OptionTable, RefusesNumbersThatMeanNothing) {
  for (const char* value : {"0", "1001", "12x", "", "1e3", "99999999999999999999"}) {
    EXPECT_THAT(Example().Refusal({"--batch-size", value}), HasSubstr("batch-size")) << value;
  }
  for (const char* value : {"-1", "11", "nan", "fast", "inf"}) {
    EXPECT_THAT(Example().Refusal({"--lr", value}), HasSubstr("lr")) << value;
  }
  EXPECT_THAT(Example().Refusal({"--augment", "maybe"}), HasSubstr("augment"));
  EXPECT_THAT(Example().Refusal({"--lr"}), HasSubstr("lr"));
}

TEST(OptionTable, ReadsItsOwnSettingsBack) {
  Example written;
  written.Parse({"-b", "7", "--lr", "0.003", "--param-group", "a lr=1", "--param-group",
                 " b#c lr=2", "--augment", "off"});
  const std::string path = testing::TempDir() + "/option_table_test.cfg";
  WriteText(path, "# a comment\n\n" + written.table.Resolved());

  Example read;
  read.Parse({"--config", path.c_str()});
  EXPECT_EQ(read.batch_size, 7);
  EXPECT_EQ(read.rate, 0.003);
  EXPECT_FALSE(read.augment);
  EXPECT_EQ(read.groups, (std::vector<std::string>{"a lr=1", " b#c lr=2"}));
  EXPECT_EQ(read.table.Resolved(), written.table.Resolved());

  Example overridden;
  overridden.Parse({"--config", path.c_str(), "-b", "9"});
  EXPECT_EQ(overridden.batch_size, 9);
  EXPECT_EQ(overridden.rate, 0.003);
}

TEST(OptionTable, WhatBelongsToOneStartIsNoSetting) {
  Example example;
  example.table.Add("resume", "FROM", "auto", "where from", [](const std::string&) {});
  example.table.NotASetting();
  example.Parse({"--resume", "none"});
  EXPECT_THAT(example.table.Resolved(), testing::Not(HasSubstr("resume")));
}

// Ranks are compared by it: their files may have other names.
TEST(OptionTable, AskedHasAllValuesButNamesNoFileOfSettings) {
  Example example;
  std::string from;
  example.table.Add("resume", "FROM", "auto", "of one start", store::Text(&from));
  example.table.NotASetting();
  const std::string path = testing::TempDir() + "/asked.cfg";
  WriteText(path, "lr = 0.5\n");
  ASSERT_TRUE(example.Parse({"--config", path.c_str(), "--resume", "none", "a.jpg"}));
  const std::string asked = example.table.Asked();
  EXPECT_THAT(asked, testing::AllOf(HasSubstr("command = convoy example\nFILE = a.jpg\n"),
                                    HasSubstr("\nresume = none\n"), HasSubstr("\nlr = 0.5\n")));
  EXPECT_THAT(asked, testing::Not(HasSubstr("config")));
}

TEST(OptionTable, NamesTheLineOfAFileThatItDoesNotUnderstand) {
  const std::string path = testing::TempDir() + "/option_table_wrong.cfg";
  WriteText(path, "lr = 0.01\nbatchsize = 3\n");
  EXPECT_THAT(Example().Refusal({"--config", path.c_str()}), HasSubstr("--batch-size"));
  WriteText(path, "lr = 0.01\nnonsense\n");
  EXPECT_THAT(Example().Refusal({"--config", path.c_str()}), HasSubstr("2"));
  EXPECT_THAT(Example().Refusal({"--config", "/no/such/file"}), HasSubstr("/no/such/file"));
}

TEST(OptionTable, HelpNamesEveryOptionItsDefaultAndItsMeaning) {
  const std::string help = Example().table.Help();
  for (const char* part : {"--batch-size", "-b", "[128]", "images of a step", "--config", "FILE"}) {
    EXPECT_THAT(help, HasSubstr(part));
  }
}

TEST(Recipes, AreBuiltIntoTheProgram) {
  const std::vector<std::string> names = RecipeNames();
  EXPECT_THAT(names, testing::IsSupersetOf({"alexnet2012", "alexnet2012-paper", "fashion-mnist",
                                            "learnable-2012", "learnable-bn", "quickstart"}));
  for (const std::string& name : names) EXPECT_THAT(RecipeText(name), HasSubstr("model = "));
  EXPECT_THROW(RecipeText("alexnet2013"), Error);
}

}  // namespace
}  // namespace convoy
