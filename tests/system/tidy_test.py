"""The checks of .clang-tidy find a wrong name and an include that nothing uses."""

import os
import shutil
import subprocess
import tempfile
import unittest

from convoy import SOURCE

CLANG_TIDY = "clang-tidy-19"
TIDY = os.path.join(SOURCE, "cmake", "tidy")  # as in the preset tidy of CMakePresets.json
CLEAN = """#include <string>

namespace convoy {

struct Sample {
  std::string file_name;
};

class Reader {
 public:
  int NextRow() { return row_ + kStep; }
  int row() const { return row_; }

 private:
  static constexpr int kStep = 1;
  int row_ = 0;
};

}  // namespace convoy
"""


@unittest.skipUnless(shutil.which(CLANG_TIDY), f"{CLANG_TIDY} is not installed")
class Tidy(unittest.TestCase):
    def check(self, text):
        """What clang-tidy finds in a source file with this text."""
        with tempfile.TemporaryDirectory(prefix="convoy-system-") as folder:
            path = os.path.join(folder, "planted.cc")
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            config = os.path.join(SOURCE, ".clang-tidy")
            return subprocess.run(
                [TIDY, "--quiet", f"--config-file={config}", path, "--", "-std=c++20"],
                capture_output=True, text=True, check=False,
            )  # fmt: skip

    def test_a_clean_file_passes(self):
        process = self.check(CLEAN)
        self.assertEqual(process.returncode, 0, process.stdout + process.stderr)

    def test_wrong_names_and_an_include_that_nothing_uses_fail(self):
        wrong_names = {
            "Sample": "sample",
            "file_name": "fileName",
            "NextRow": "nextRow",
            "row_": "the_row",
            "kStep": "step",
            "namespace convoy": "namespace Convoy",
        }
        text = "#include <vector>\n" + CLEAN
        for right, wrong in wrong_names.items():
            text = text.replace(right, wrong)
        process = self.check(text)
        self.assertNotEqual(process.returncode, 0)
        self.assertIn("included header vector is not used", process.stdout)
        self.assertIn("[misc-include-cleaner", process.stdout)
        for wrong in wrong_names.values():
            self.assertRegex(process.stdout, f"'{wrong.split()[-1]}' \\[readability-identifier-naming")

    def test_the_preset_runs_this_program(self):
        with open(os.path.join(SOURCE, "CMakePresets.json"), encoding="utf-8") as file:
            self.assertIn('"${sourceDir}/cmake/tidy;', file.read())


if __name__ == "__main__":
    unittest.main()
