"""A run that is killed, stopped or torn goes on as if nothing had been."""

import os
import random
import shutil
import signal
import time
import unittest

from convoy import (
    BACKEND,
    ON_BACKEND,
    ConvoyTest,
    checkpoints,
    losses,
    metrics,
    run,
    start,
    tensors,
)

STEPS = 24
ENDLESS = 800  # all that 100 epochs have: for runs that are stopped
NETWORK = ["--model", "alexnet-bn", "--input", "67"]
EVALUATED = 1500  # images: long enough for a signal
if BACKEND == "emulated":  # in plain loops
    NETWORK, EVALUATED = ["--model", "lenet5"], 300


def settings(folder, ranks, steps=STEPS, cut=None):
    if cut is None:
        cut = {1: [], 2: ["--towers", "2"], 4: ["--towers", "2", "--replicas", "2"]}[ranks]
    return [
        "train", "--data", "synthetic:60x10", *NETWORK, "--batch-size", "8", "--lr", "0.001",
        "--steps", str(steps), "--epochs", "100", "--mean", "none", "--std", "60",
        "--checkpoint-every", "5", "--threads", "1", "--workers", "1", "--output-dir", folder,
        "--print-freq", "1", *cut, *ON_BACKEND,
    ]  # fmt: skip


class Resume(ConvoyTest):
    def begun(self, name, ranks, cut=None):
        """A run's folder. On a device, kernels are chosen by their times, which differ from run to
        run; a checkpoint keeps the choice. So these runs have their first checkpoint in common."""
        folder = self.path(name)
        if BACKEND == "cuda":
            first = self.path(f"first-{ranks}")
            if not os.path.exists(first):
                words = settings(first, ranks, steps=5, cut=cut)
                self.assert_exit(run(*words, ranks=ranks if ranks > 1 else 0), 0)
            shutil.copytree(first, folder)
        return folder

    def uninterrupted(self, ranks, cut=None):
        folder = self.begun("whole", ranks, cut)
        words = settings(folder, ranks, cut=cut)
        self.assert_exit(run(*words, ranks=ranks if ranks > 1 else 0), 0)
        return folder

    def wait_for_step(self, folder, step, process):
        """Until metrics.jsonl speaks of the step, or the process ends."""
        while process.poll() is None:
            if steps_written(folder) >= step:
                return
            time.sleep(0.01)

    def assert_same_run(self, folder, whole):
        self.assertEqual(tensors(checkpoints(folder)[-1]), tensors(checkpoints(whole)[-1]))
        lines = [line["step"] for line in metrics(folder)]
        self.assertEqual(lines, list(range(1, STEPS + 1)))
        self.assertEqual(
            [line["loss"] for line in metrics(folder)], [line["loss"] for line in metrics(whole)]
        )

    def check_kills(self, ranks, cut=None):
        whole = self.uninterrupted(ranks, cut)
        folder = self.begun("killed", ranks, cut)
        words = settings(folder, ranks, cut=cut)
        generator = random.Random(7)
        kills = 0
        for _ in range(3):
            process = start(*words, ranks=ranks if ranks > 1 else 0)
            done = len(metrics(folder)) if os.path.exists(folder + "/metrics.jsonl") else 0
            self.wait_for_step(folder, min(done + generator.randint(1, 9), STEPS - 2), process)
            victims = rank_processes(folder)
            if victims:
                os.kill(generator.choice(victims), signal.SIGKILL)
                kills += 1
            process.communicate()
        self.assertGreaterEqual(kills, 2 if BACKEND == "cpu" else 1)
        self.assert_exit(run(*words, ranks=ranks if ranks > 1 else 0), 0)
        self.assert_same_run(folder, whole)

    def test_a_run_killed_at_random_steps_ends_bitwise_the_same(self):
        self.check_kills(1)

    def test_two_towers_killed_at_random_steps_end_bitwise_the_same(self):
        self.check_kills(2)

    def test_four_ranks_killed_at_random_steps_end_bitwise_the_same(self):
        self.check_kills(4)

    def test_two_shards_killed_at_random_steps_end_bitwise_the_same(self):
        self.check_kills(2, ["--fc-shards", "2"])

    def test_micro_batches_killed_at_random_steps_end_bitwise_the_same(self):
        """Of 3, 3 and 2 images; the last batch of an epoch has two micro-batches, of 3 and 1."""
        self.check_kills(2, ["--fc-shards", "2", "--accumulate", "3"])

    def test_a_signal_stops_with_a_checkpoint_and_code_75(self):
        whole = self.uninterrupted(2)
        for number, name in ((signal.SIGTERM, "term"), (signal.SIGINT, "int"), (signal.SIGUSR1, "usr1")):
            folder = self.path(name)
            process = start(*settings(folder, 2), ranks=2)
            self.wait_for_step(folder, 7, process)
            process.send_signal(number)
            _, errors = process.communicate(timeout=120)
            self.assertEqual(process.returncode, 75, errors)
            self.assertIn("the same command goes on from there", errors)
            self.assert_exit(run(*settings(folder, 2), ranks=2), 0)
            self.assert_same_run(folder, whole)

    def test_signals_reach_a_thread_that_computes_nothing(self):
        """oneDNN's kernels cannot bear a handler (core/host/signal_thread.h)."""
        folder = self.begun("threads", 2)
        process = start(*settings(folder, 2, steps=ENDLESS), ranks=2)
        self.wait_for_step(folder, 1, process)
        takers = [takers_of_signals(rank) for rank in rank_processes(folder)]
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 75, errors)
        self.assertEqual(takers, [["signals"], ["signals"]])

    def test_signals_that_come_all_the_time_change_no_number(self):
        folder = self.begun("asked", 1)
        process = start(*settings(folder, 1, steps=ENDLESS))
        self.wait_for_step(folder, 1, process)
        while process.poll() is None and steps_written(folder) < 8:
            process.send_signal(signal.SIGHUP)
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 75, errors)
        whole = self.begun("whole", 1)
        self.assert_exit(run(*settings(whole, 1, steps=len(metrics(folder)))), 0)
        self.assertEqual(losses(folder), losses(whole))
        self.assertEqual(tensors(checkpoints(folder)[-1]), tensors(checkpoints(whole)[-1]))

    def test_a_signal_during_an_evaluation_leaves_it_to_the_next_start(self):
        words = [*settings("FOLDER", 2), "--val", f"synthetic:{EVALUATED}x10"]
        at = words.index("FOLDER")
        whole, folder = self.path("whole"), self.path("stopped")
        words[at] = whole
        self.assert_exit(run(*words, ranks=2), 0)
        words[at] = folder
        process = start(*words, ranks=2)
        self.wait_for_step(folder, 8, process)  # the last of its epoch: the evaluation follows
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 75, errors)
        self.assert_exit(run(*words, ranks=2), 0)
        self.assert_same_run(folder, whole)
        self.assertEqual(metrics(folder, "eval"), metrics(whole, "eval"))

    def test_going_back_to_an_earlier_checkpoint_sets_the_later_ones_aside(self):
        folder = self.path("back")
        words = [*settings(folder, 1), "--keep", "5"]
        self.assert_exit(run(*words), 0)
        steps = [int(path[-21:-12]) for path in checkpoints(folder)]
        self.assertEqual(steps[-1], STEPS)
        earlier = checkpoints(folder)[1]
        process = run(*words, "--resume", earlier)
        self.assert_exit(process, 0)
        self.assertIn(".abandoned", process.stderr)
        self.assertEqual([line["step"] for line in metrics(folder)], list(range(1, STEPS + 1)))
        # What is newest now is this run's.
        self.assertEqual(int(checkpoints(folder)[-1][-21:-12]), STEPS)
        self.assertTrue(os.path.exists(os.path.join(
            folder, "checkpoints", f"step-{STEPS:09}.safetensors.abandoned")))

    def test_a_damaged_checkpoint_is_skipped_by_name(self):
        whole = self.uninterrupted(1)
        folder = self.path("damaged")
        short = [word if word != str(STEPS) else "12" for word in settings(folder, 1)]
        self.assert_exit(run(*short), 0)
        newest = checkpoints(folder)[-1]
        with open(newest, "r+b") as file:
            file.seek(-100, os.SEEK_END)
            file.write(b"x" * 50)
        process = run(*settings(folder, 1))
        self.assert_exit(process, 0)
        self.assertIn(f"skipping a checkpoint: {newest}: tensor", process.stderr)
        self.assert_same_run(folder, whole)

    def test_resume_none_keeps_the_earlier_run_aside(self):
        folder = self.path("run")
        short = [word if word != str(STEPS) else "3" for word in settings(folder, 1)]
        self.assert_exit(run(*short), 0)
        self.assert_exit(run(*short, "--resume", "none"), 0)
        self.assertEqual([line["step"] for line in metrics(folder)], [1, 2, 3])
        self.assertEqual(len(metrics(os.path.join(folder, "previous-1"))), 3)
        # And without it the finished run has nothing left to do.
        process = run(*short)
        self.assert_exit(process, 0)
        self.assertIn("is finished", process.stderr)

    @unittest.skipIf(BACKEND == "cuda", "two runs may choose other kernels")
    def test_two_states_and_the_counts_of_updates_go_on_bitwise_too(self):
        """Adam's. conv1 is frozen in the first epoch, so it has had fewer updates than the others."""
        group = "conv1.* lr-scheduler=piecewise:0=0,1=0.001"
        adam = ["--optimizer", "adam", "--param-group", group]
        whole, folder = self.path("adam"), self.path("adam-in-parts")
        self.assert_exit(run(*settings(whole, 2), *adam, ranks=2), 0)
        for steps in (5, 13, STEPS):
            self.assert_exit(run(*settings(folder, 2, steps), *adam, ranks=2), 0)
        self.assert_same_run(folder, whole)
        # Momentum means nothing to Adam, and nobody can tell what it would be.
        process = run(*settings(folder, 2, STEPS + 1), "--optimizer", "sgd", ranks=2)
        self.assert_exit(process, 4)
        self.assertIn("optimizer: adam in the checkpoint, sgd in this run", process.stderr)

    def test_another_world_size_goes_on_with_the_same_images(self):
        folder = self.path("grown")
        short = [word if word != str(STEPS) else "10" for word in settings(folder, 1)]
        self.assert_exit(run(*short), 0)
        process = run(*settings(folder, 4), ranks=4)
        self.assert_exit(process, 0)
        self.assertIn("it was written by 1 ranks", process.stderr)
        self.assertEqual([line["step"] for line in metrics(folder)], list(range(1, STEPS + 1)))


def steps_written(folder):
    """How many steps metrics.jsonl speaks of; the last line may be half written."""
    path = os.path.join(folder, "metrics.jsonl")
    if not os.path.exists(path):
        return 0
    with open(path, encoding="utf-8") as file:
        return sum(1 for line in file if '"step"' in line)


def rank_processes(folder):
    """Process ids of the ranks that write into `folder`."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"/convoy") and folder.encode() in words:
            found.append(int(pid))
    return found


def takers_of_signals(pid):
    """Names of the threads of a process that TERM, INT, USR1 or HUP may reach."""
    names = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{thread}/status", encoding="utf-8") as file:
                status = dict(line.split(":\t", 1) for line in file if ":\t" in line)
        except OSError:  # it has ended
            continue
        blocked = int(status["SigBlk"], 16)
        asking = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
        if any(not blocked >> (number - 1) & 1 for number in asking):
            names.append(status["Name"].strip())
    return names


if __name__ == "__main__":
    unittest.main()
