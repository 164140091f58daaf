"""Faults 1 to 3, 10, 13 to 15 and 21 of the thirty: ranks that die, hang, differ, or are signalled."""

import os
import signal
import subprocess
import sys
import unittest

from convoy import CONVOY, SOURCE, TIMEOUT_S, checkpoints, environment, losses, metrics, tensors, write_image
from fault_case import ENDLESS, HAS_COMPILER, SLOW_READS, FaultTest

STEPS = ["--steps", "300", "--checkpoint-every", "50"]
HOSTS = os.path.join(SOURCE, "tests", "cluster", "hosts")


class Ranks(FaultTest):
    def whole(self):
        self.assert_exit(self.train("whole", *STEPS, ranks=2), 0)

    def images(self):
        """A folder of PNGs, so that the loader reads files."""
        for i in range(16):
            path = self.path(f"data/{'ab'[i % 2]}/{i}.png")
            os.makedirs(os.path.dirname(path), exist_ok=True)
            write_image(path, i)
        return ["--data", self.path("data"), "--index-folder", self.folder]

    def test_01_a_rank_is_killed(self):
        self.whole()
        for rank in 1, 0:
            name = f"run-{rank}"
            process = self.start(name, *ENDLESS, ranks=2)
            self.wait_for(name, 12, process)
            self.kill(self.ranks_of(name)[rank])
            self.saw(f"kill -9 of rank {rank}", self.end_of(process), 6, f"rank {rank} on .*signal 9")
        # The run that the kills disturb ends as the other one, bit for bit.
        process = self.start("again", *STEPS, ranks=2)
        self.wait_for("again", 15, process)
        for pid in self.ranks_of("again").values():
            self.kill(pid)
        self.end_of(process)
        self.saw("the same command again", self.train("again", *STEPS, ranks=2), 0, "going on from|done")
        self.assert_same_run("again", "whole")

    def test_02_preemption_by_term(self):
        self.whole()
        process = self.start("run", *STEPS, ranks=2)
        self.wait_for("run", 5, process)
        process.send_signal(signal.SIGTERM)
        self.saw("TERM to convoyrun", self.end_of(process), 75, "stopped by a signal after step")
        self.saw("the same command again", self.train("run", *STEPS, ranks=2), 0, "going on from")
        self.assert_same_run("run", "whole")

    def test_02_a_second_term_ends_at_once(self):
        words = [*ENDLESS, "--checkpoint-every", "10", "--keep", "100"]
        process = self.start("run", *words, ranks=2)
        self.wait_for("run", 25, process)
        ranks = self.ranks_of("run").values()
        for pid in ranks:
            self.kill(pid, signal.SIGSTOP)  # they cannot finish their step
        newest = self.newest("run")
        before = tensors(newest)
        process.send_signal(signal.SIGTERM)
        while "stopping after this step" not in process.stderr.readline():
            self.assertIsNone(process.poll())
        process.send_signal(signal.SIGTERM)
        for pid in ranks:
            self.kill(pid, signal.SIGCONT)
        self.saw("TERM twice, while ranks stand still", self.end_of(process), 143)
        self.assertEqual(tensors(newest), before)

    def test_03_usr1_int_and_hup(self):
        for number, whom in ((signal.SIGUSR1, "every rank"), (signal.SIGINT, "convoyrun")):
            name = f"run-{number}"
            process = self.start(name, *ENDLESS, ranks=2)
            self.wait_for(name, 3, process)
            for pid in self.ranks_of(name).values() if number == signal.SIGUSR1 else [process.pid]:
                self.kill(pid, number)
            did = f"{signal.Signals(number).name[3:]} to {whom}"
            self.saw(did, self.end_of(process), 75, "stopped by a signal after step")
        process = self.start("hup", *ENDLESS, "--checkpoint-every", "0")
        self.wait_for("hup", 3, process)
        self.assertEqual(checkpoints(self.path("hup")), [])
        process.send_signal(signal.SIGHUP)
        while not checkpoints(self.path("hup")):
            self.assertIsNone(process.poll())
        self.wait_for("hup", len(metrics(self.path("hup"))) + 3, process)
        process.send_signal(signal.SIGTERM)
        self.saw("HUP: a checkpoint, and on; then TERM", self.end_of(process), 75, "stopped by a signal")

    def test_10_another_number_of_ranks_or_batch_size(self):
        steps = ["--steps", "12"]  # an epoch has 10
        self.assert_exit(self.train("run", *steps), 0)
        process = self.train("run", "--steps", "20", ranks=4)
        self.saw("1 rank, then 4", process, 0, "it was written by 1 ranks with batches of 8, now 4 with 8")
        self.assertEqual([line["step"] for line in metrics(self.path("run"))], list(range(1, 21)))
        self.assert_exit(self.train("one", "--steps", "20"), 0)
        for found, expected in zip(losses(self.path("run")), losses(self.path("one"))):
            self.assertAlmostEqual(found, expected, delta=1e-3 * expected)
        process = self.train("run", "--steps", "24", "--batch-size", "4")
        self.saw("another batch size at an epoch's start", process, 0, "batch-size 8 -> 4")
        process = self.train("run", "--steps", "30", "--batch-size", "7")
        self.saw("another one in the middle", process, 2, "stands after 16 images of its epoch")

    def test_13_a_rank_that_is_stopped(self):
        process = self.start("run", *ENDLESS, "--lost-after", "3", ranks=2)
        self.wait_for("run", 5, process)
        victim = self.ranks_of("run")[1]
        self.addCleanup(self.kill, victim)
        self.kill(victim, signal.SIGSTOP)
        self.saw("STOP to rank 1", self.end_of(process), 6, r"rank 1 .*(silent|stopped)")

    @unittest.skipUnless(HAS_COMPILER, "there is no C compiler")
    def test_13_a_loader_that_hangs(self):
        stop = self.path("stop")
        env = self.on_rank(1, STOP=stop, **self.preload(SLOW_READS))
        process = self.start("run", *ENDLESS, *self.images(), "--deadline", "3", ranks=2, env=env)
        self.wait_for("run", 3, process)
        with open(stop, "w", encoding="utf-8"):
            pass
        self.saw("reads of rank 1 that never end", self.end_of(process), 6, r"rank 1\b.*step \d+")

    @unittest.skipUnless(HAS_COMPILER, "there is no C compiler")
    def test_14_a_slow_rank(self):
        env = self.on_rank(1, **self.preload(SLOW_READS))
        process = self.train("run", *self.images(), "--batch-size", "16", "--steps", "25", ranks=2, env=env)
        self.saw("30 ms for every image of rank 1", process, 0, "slow ranks hold the others up: rank 1 ")

    def test_15_ranks_that_differ(self):
        words = self.words("run", "--steps", "1")
        other = self.path("convoy")
        subprocess.run(["cp", CONVOY, other], check=True)
        with open(other, "ab") as file:
            file.write(b"another build")
        for did, program, more, line in (
            ("another batch on rank 1", CONVOY, ["--batch-size", "4"],
             r"rank 1 .*batch-size 4 \(rank 0: 8\)"),
            ("another build on rank 1", other, [], r"different programs: rank 1 "),
        ):  # fmt: skip
            process = subprocess.run(
                ["mpirun", "-n", "1", CONVOY, *words, ":", "-n", "1", program, *words, *more],
                capture_output=True, text=True, env=environment(), check=False, timeout=TIMEOUT_S,
            )  # fmt: skip
            self.saw(did, process, 2, line)
            self.assertFalse(os.path.exists(self.path("run")))

    @unittest.skipUnless("CONVOY_THIRTY_FAULTS" in os.environ, "tests/cluster does it")
    def test_21_the_network_between_two_hosts_is_cut(self):
        test = "lost_host_test.TwoHosts.test_a_host_that_is_cut_off_is_named_and_nothing_is_left"
        process = subprocess.run(
            [HOSTS, "run", "2", sys.executable, "-B", "-m", "unittest", test], capture_output=True,
            text=True, env=environment(), check=False, cwd=os.path.dirname(HOSTS), timeout=TIMEOUT_S,
        )  # fmt: skip
        self.require(process.returncode != 77, process.stderr.strip())
        # The test itself looks for the exit code 6 and the line.
        self.saw(f"tests/cluster: {test.rsplit('.', maxsplit=1)[-1]}", process, 0, "ended .* after the cut")


if __name__ == "__main__":
    unittest.main()
