"""Ranks that are lost or stopped: no rank hangs, one line says who, and the exit code is 6."""

import os
import signal
import time
import unittest

from convoy import ConvoyTest, start
from resume_test import rank_processes, settings


class LostRanks(ConvoyTest):
    def wait_for_ranks(self, folder, count, process):
        """Until the run has written some steps and `count` ranks run."""
        path = os.path.join(folder, "metrics.jsonl")
        while process.poll() is None:
            if os.path.exists(path) and os.path.getsize(path) > 200:
                ranks = rank_processes(folder)
                if len(ranks) == count:
                    return ranks
            time.sleep(0.01)
        self.fail(process.communicate()[1])

    def endless(self, folder):
        words = settings(folder, 2)
        words[words.index("--steps") + 1] = "100000"
        return words

    def test_a_killed_rank_ends_the_run_with_code_6(self):
        folder = self.path("run")
        process = start(*self.endless(folder), ranks=2)
        os.kill(self.wait_for_ranks(folder, 2, process)[1], signal.SIGKILL)
        _, errors = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 6, errors)

    def test_a_stopped_rank_is_given_up_after_the_deadline_and_named(self):
        folder = self.path("run")
        process = start(*self.endless(folder), "--deadline", "3", ranks=2)
        ranks = self.wait_for_ranks(folder, 2, process)
        victim = max(ranks)
        os.kill(victim, signal.SIGSTOP)
        try:
            _, errors = process.communicate(timeout=120)
        finally:
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.assertEqual(process.returncode, 6, errors)
        self.assertRegex(errors, r"(missing|behind): rank \d[^;]*, stopped")

    def test_a_second_signal_ends_at_once(self):
        folder = self.path("run")
        process = start(*self.endless(folder), ranks=2)
        for pid in self.wait_for_ranks(folder, 2, process):
            os.kill(pid, signal.SIGSTOP)  # cannot finish its step
        ranks = rank_processes(folder)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        for pid in ranks:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 143)


if __name__ == "__main__":
    unittest.main()
