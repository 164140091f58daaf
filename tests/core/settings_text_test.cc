// Settings as text: whatever a value is, it comes back as it was.
#include "core/settings_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"

namespace convoy {
namespace {

using testing::HasSubstr;

std::string OnlyValue(const std::string& text) {
  const std::vector<Setting> settings = ParseSettings("file", text);
  return settings.size() == 1 ? settings[0].value
                              : "found " + std::to_string(settings.size()) + " settings";
}

std::string Refusal(const std::string& text) {
  try {
    ParseSettings("file", text);
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kUsage);
    return error.what();
  }
  return "nothing was refused";
}

TEST(SettingsText, EveryValueReadsBackAsItWas) {
  for (const std::string value : {"0.01",
                                  "",
                                  " ",
                                  "a b",
                                  " a",
                                  "a ",
                                  "\ta\t",
                                  "a#b",
                                  "#",
                                  "\"",
                                  "\"a\"",
                                  "a\"b",
                                  "a\"b#c\"d",
                                  "\"a\" b",
                                  "x = y",
                                  "=",
                                  "a=b=c",
                                  "C:\\new\\table",
                                  "\\",
                                  "\\\\",
                                  "\\\"",
                                  "a\\",
                                  "\"\\",
                                  "two\nlines",
                                  "a\r",
                                  "\n",
                                  "# no comment",
                                  "'single'",
                                  "'",
                                  "\xEF\xBB\xBF",
                                  "\xC3\xA9t\xC3\xA9",
                                  "*.bias lr-multiplier=2 weight-decay=0",
                                  "photos \"of cats\" #1.tar:train",
                                  "\\n",
                                  "a\vb"}) {
    const std::string line = SettingLine("data", value);
    EXPECT_EQ(OnlyValue(line), value) << line;
    EXPECT_EQ(OnlyValue("# before\n" + line + "# behind"), value) << line;
    EXPECT_EQ(line.find('\n'), line.size() - 1) << line;
    // As an editor of Windows would save it.
    EXPECT_EQ(OnlyValue("\xEF\xBB\xBF" + line.substr(0, line.size() - 1) + "\r\n"), value) << line;
  }
}

TEST(SettingsText, CommentsBlanksAndUnderscoresAreRead) {
  const std::vector<Setting> settings = ParseSettings(
      "file", "\n  # all\nbatch_size=3 # images\n\tdata = \"a # b\"  # path\nval =\n");
  ASSERT_EQ(settings.size(), 3u);
  EXPECT_EQ(settings[0].name, "batch-size");
  EXPECT_EQ(settings[0].value, "3");
  EXPECT_EQ(settings[1].value, "a # b");
  EXPECT_EQ(settings[2].value, "");
}

TEST(SettingsText, WhatIsNoSettingIsRefusedWithItsLine) {
  EXPECT_THAT(Refusal("lr = 1\nnonsense\n"), HasSubstr("file line 2: expected name = value"));
  EXPECT_THAT(Refusal("lr # = 1"), HasSubstr("line 1"));
  EXPECT_THAT(Refusal("data = \"open"), HasSubstr("closing quote"));
  EXPECT_THAT(Refusal("data = \"a\" b"), HasSubstr("closing quote"));
  EXPECT_THAT(Refusal("\xFF\xFEl\0r\0"), HasSubstr("UTF-16"));
}

}  // namespace
}  // namespace convoy
