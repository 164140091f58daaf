"""tests/gpu where there is no device: it says why, and runs nothing. Its counting of test programs."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

from convoy import BUILD, SOURCE, ConvoyTest

SCRIPT = os.path.join(SOURCE, "tests", "gpu")
RESULTS = os.path.join(SOURCE, "tests", "gpu_support", "results.py")

# A test program in a few lines: one test of each outcome, and one that crashes.
PROGRAM = """#!/bin/sh
case "$*" in
  *--gtest_list_tests*) printf 'Suite.\\n  Good\\n  Skips\\n  Crashes\\n  Bad/0  # GetParam() = 1\\n' ;;
  *Crashes*)
    printf '[ RUN      ] Suite.Good\\n[       OK ] Suite.Good (1 ms)\\n'
    printf '[ RUN      ] Suite.Skips\\nno device\\n[  SKIPPED ] Suite.Skips (0 ms)\\n'
    printf '[ RUN      ] Suite.Crashes\\n'
    kill -SEGV $$ ;;
  *)
    printf '[ RUN      ] Suite.Bad/0\\nwrong by 1\\n'
    printf '[  FAILED  ] Suite.Bad/0, where GetParam() = 1 (2 ms)\\n' ;;
esac
"""


class WithoutADevice(ConvoyTest):
    def run_script(self, *arguments, **variables):
        return subprocess.run(
            [SCRIPT, *arguments, "--out", self.path("out")], capture_output=True, text=True,
            check=False, timeout=120,
            env=dict(os.environ, CUDA_VISIBLE_DEVICES="", CONVOY_BUILD=BUILD, **variables),
        )  # fmt: skip

    def test_it_says_why_and_ends_with_0(self):
        process = self.run_script("--run")
        self.assert_exit(process, 0)
        lines = process.stdout.splitlines()
        self.assertEqual(lines[-1], "tests/gpu: no device: everything skipped")
        self.assertIn("convoy: error: ", lines[-2])

    def test_help_and_mistakes(self):
        process = self.run_script("--help")
        self.assert_exit(process, 0)
        self.assertIn("--pack FILE.tar.xz", process.stdout)
        self.assert_exit(self.run_script("--run", "everything"), 2)


class Rehearsal(ConvoyTest):
    """The first minutes on a device, tried on the emulated one: no typing error may cost a device."""

    def test_every_step_of_the_first_minutes_passes(self):
        self.check("first", {"counters", "memcheck", "racecheck"})

    def test_every_step_of_the_second_call_passes(self):
        self.check("second", set())

    def check(self, part, may_be_skipped):
        if not os.path.exists(os.path.join(BUILD, "tests", "nccl_emulated_test")):
            self.skipTest("only the program is built")
        process = subprocess.run(
            [SCRIPT, part, "--rehearse", "--out", self.path("out")], capture_output=True, text=True,
            check=False, timeout=1700, env=dict(os.environ, CONVOY_BUILD=BUILD),
        )  # fmt: skip
        print(process.stdout)
        self.assert_exit(process, 0)
        with open(self.path("out/first.jsonl"), encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
        self.assertGreater(len(lines), 5)
        for line in lines:
            allowed = {"passed", "skipped"} if line["step"] in may_be_skipped else {"passed"}
            if line["step"] == "loader_fed":  # reads photographs of ../shared
                allowed.add("skipped")
            self.assertIn(line["outcome"], allowed, line["line"])


class Counting(unittest.TestCase):
    def results(self, *words):
        return subprocess.run(
            [sys.executable, "-B", RESULTS, *words], capture_output=True, text=True, check=False,
            env=self.environment, timeout=60,
        )  # fmt: skip

    def test_crashes_and_skips_are_counted(self):
        with tempfile.TemporaryDirectory() as folder:
            program = os.path.join(folder, "suite_test")
            with open(program, "w", encoding="utf-8") as file:
                file.write(PROGRAM)
            os.chmod(program, 0o755)
            self.environment = dict(
                os.environ,
                CONVOY_RESULTS=os.path.join(folder, "results"),
                CONVOY_LOG=os.path.join(folder, "log"),
            )
            self.results("gtest", "unit", program)
            counts = self.results("counts", "unit")
            self.assertEqual(counts.returncode, 1)
            self.assertIn("unit: 3 run, 1 skipped, 2 failed", counts.stdout)
            self.assertIn("Suite.Skips: no device", counts.stdout)
            summary = self.results("summary")
            self.assertEqual(summary.returncode, 1)
            self.assertIn("failed: unit: suite.Suite.Crashes", summary.stdout)
            self.assertIn("failed: unit: suite.Suite.Bad/0", summary.stdout)

    def test_nothing_run_is_a_failure(self):
        with tempfile.TemporaryDirectory() as folder:
            self.environment = dict(
                os.environ,
                CONVOY_RESULTS=os.path.join(folder, "results"),
                CONVOY_LOG=os.path.join(folder, "log"),
            )
            self.results("record", "unit", "everything", "skipped", "no reason")
            self.assertEqual(self.results("summary").returncode, 1)


if __name__ == "__main__":
    unittest.main()
