"""tests/skips finds skips of every kind in ctest's log, and tells which a machine may have."""

import os
import subprocess
import tempfile
import unittest

from convoy import SOURCE


def skips(log):
    """Runs tests/skips on a build tree whose last run of ctest wrote `log`."""
    with tempfile.TemporaryDirectory(prefix="convoy-system-") as folder:
        os.makedirs(os.path.join(folder, "Testing", "Temporary"))
        with open(os.path.join(folder, "Testing", "Temporary", "LastTest.log"), "w") as file:
            file.write("1/1 Test: a\nOutput:\n" + log + "\nTest Passed.\n")
        script = os.path.join(SOURCE, "tests", "skips")
        return subprocess.run([script, folder], capture_output=True, text=True, check=False)


class Skips(unittest.TestCase):
    def test_what_a_machine_may_lack_is_listed(self):
        for log, reason in (
            ("a_test.cc:3: Skipped\nno device: skipped: no driver\n", "no device: skipped: no driver"),
            ("a_test.cc:3: Skipped\nneeds /x/../shared/data/x.tar\n", "needs /x/../shared/data/x.tar"),
            ("a_test.cc:3: Skipped\n../shared/reference is not there\n", "../shared/reference"),
            ("test_a (m.A.test_a) ... skipped 'CONVOY_BACKEND is not cuda'", "CONVOY_BACKEND is not"),
            ("", ""),
        ):
            with self.subTest(log):
                process = skips(log)
                self.assertEqual(process.returncode, 0, process.stderr)
                self.assertIn(reason, process.stderr)

    def test_what_a_machine_must_have_is_an_error(self):
        for log, reason in (
            ("a_test.cc:3: Skipped\nneeds /usr/share/datasets/x\n", "needs /usr/share/datasets/x"),
            ("a_test.cc:3: Skipped\n\n[  SKIPPED ] A.a", "for no reason that it gives"),
            ("test_a (m.A.test_a) ... skipped 'strace is not installed'", "strace is not installed"),
            ("setUpClass (m.A) ... skipped \"there's no cc\"", "there's no cc"),
            ("hosts: skipped: no namespaces here", "no namespaces here"),
        ):
            with self.subTest(log):
                process = skips(log)
                self.assertEqual(process.returncode, 1, process.stderr)
                self.assertIn(f"ERROR: 1 skipped: {reason}", process.stderr)

    def test_an_error_stands_beside_others(self):
        process = skips("a.cc:1: Skipped\nno bf16 without AVX-512\n\nhosts: skipped: not here\n" * 2)
        self.assertEqual(process.returncode, 1)
        self.assertIn("skips: 2 skipped: no bf16 without AVX-512", process.stderr)
        self.assertIn("skips: ERROR: 2 skipped: not here", process.stderr)


if __name__ == "__main__":
    unittest.main()
