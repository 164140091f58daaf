"""A run's folder tells the truth: nothing there is lost, mixed or rewritten without a word."""

import fcntl
import os
import shutil
import signal
import subprocess
import unittest

from convoy import (
    ON_BACKEND, SOURCE, TIMEOUT_S, ConvoyTest, checkpoints, environment, losses, metrics, run, start,
)  # fmt: skip

SMALL = [
    "--model", "lenet5", "--batch-size", "2", "--mean", "none", "--threads", "1", "--workers", "1",
    *ON_BACKEND,
]  # fmt: skip
DATA = ["--data", "synthetic:8x2"]  # four steps an epoch
BEST = os.path.join("checkpoints", "best.safetensors")


def contents(folder):
    """Every file below the folder and what it holds."""
    found = {}
    for path, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(path, name), "rb") as file:
                found[os.path.relpath(os.path.join(path, name), folder)] = file.read()
    return found


def setting(folder, name):
    """The value of a setting in the folder's config.cfg."""
    with open(os.path.join(folder, "config.cfg"), encoding="utf-8") as file:
        for line in file:
            if line.startswith(name + " ="):
                return line.split("=", 1)[1].strip()
    return None


class RunFolderTest(ConvoyTest):
    def setUp(self):
        super().setUp()
        self.run_folder = self.path("run")

    def train(self, *arguments, **options):
        return run("train", *SMALL, *DATA, "--output-dir", self.run_folder, *arguments, **options)

    def begin(self, *arguments):
        process = self.train(*arguments)
        self.assert_exit(process, 0)
        return process

    def assert_refused(self, process, code, *parts):
        """Refused with one line, and the folder is as `self.before` has it."""
        self.assert_error(process, code, *parts)
        self.assertEqual(contents(self.run_folder), self.before)


class RefusedStart(RunFolderTest):
    def test_it_leaves_the_earlier_run_as_it_was(self):
        self.begin("--seed", "3", "--steps", "1")
        self.before = contents(self.run_folder)
        for code, arguments in (
            (4, ["--seed", "4", "--steps", "2"]),
            (4, ["--seed", "3", "--steps", "2", "--init", "he"]),
            (4, ["--seed", "3", "--steps", "2", "--mean", "100"]),
            (4, ["--seed", "3", "--steps", "2", "--std", "50"]),
            (4, ["--seed", "3", "--steps", "2", "--resume", self.path("missing")]),
            (4, ["--seed", "3", "--steps", "2", "--resume", self.folder]),
            (2, ["--seed", "3", "--steps", "2", "--batch-size", "3"]),
            (2, ["--seed", "3", "--steps", "2", "--param-group", "fc9.* lr=1"]),
            (3, ["--seed", "3", "--steps", "2", "--data", self.path("missing")]),
            (2, ["--seed", "3", "--steps", "1", "--lr", "0.5"]),
            (2, ["--seed", "3", "--steps", "2", "--lr-scheduler", "plateau:0.1:1"]),
        ):
            with self.subTest(arguments=arguments):
                self.assert_refused(self.train(*arguments), code)
        self.assert_exit(self.train("--seed", "3", "--steps", "2"), 0)

    def test_it_leaves_no_fresh_folder(self):
        outer = self.path("runs")
        self.run_folder = os.path.join(outer, "a", "")
        self.assert_error(self.train("--steps", "1", "--resume", self.path("missing")), 4, "missing")
        self.assertFalse(os.path.exists(outer))
        os.makedirs(self.run_folder)
        self.assert_error(self.train("--steps", "1", "--resume", self.path("missing")), 4, "missing")
        self.assertEqual(os.listdir(self.run_folder), [])

    def test_a_second_run_changes_nothing_in_the_folder_of_a_live_one(self):
        self.begin("--steps", "2")
        with open(os.path.join(self.run_folder, ".lock"), "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # as a run would hold it
            self.before = contents(self.run_folder)
            for arguments in (["--steps", "5"], ["--steps", "5", "--resume", "none"]):
                self.assert_refused(self.train(*arguments), 2, "another run is writing")


class FinishedRun(RunFolderTest):
    def test_the_same_command_says_so_and_how_to_go_on(self):
        self.begin("--steps", "2")
        self.before = contents(self.run_folder)
        # Another number of threads or another spelling of the folder is the same run.
        self.run_folder += "/"
        process = self.begin("--steps", "2", "--print-freq", "3", "--keep", "5")
        lines = [line for line in process.stderr.splitlines() if "is finished" in line]
        self.assertEqual(len(lines), 1, process.stderr)
        for part in ("step 2", "--steps", "--resume none", "--output-dir"):
            self.assertIn(part, lines[0])
        self.assertEqual(contents(self.run_folder), self.before)

    def test_a_sweep_without_output_dir_trains_nothing_in_silence(self):
        def sweep(*arguments):
            return run("train", *SMALL, *DATA, "--epochs", "1", *arguments, cwd=self.folder)

        self.assert_exit(sweep("--lr", "0.01", "--momentum", "0.5"), 0)
        self.run_folder = self.path("runs/default")
        self.before = contents(self.run_folder)
        self.assert_refused(sweep("--lr", "0.03", "--momentum", "0.5"), 2, "nothing was trained",
                            "lr 0.01 -> 0.03", "--output-dir", "--resume none")
        self.assert_refused(sweep("--lr", "0.001"), 2, "lr 0.01 -> 0.001", "momentum 0.5 -> 0.9")
        self.assert_exit(sweep("--lr", "0.001", "--resume", "none"), 0)
        self.assertEqual(setting(self.run_folder, "lr"), "0.001")
        self.assertEqual(setting(os.path.join(self.run_folder, "previous-1"), "lr"), "0.01")

    def test_a_longer_end_goes_on_and_lists_what_differs(self):
        self.begin("--steps", "2")
        process = self.begin("--steps", "4", "--lr", "0.001")
        for part in ("steps 2 -> 4 (used", "lr 0.01 -> 0.001 (used"):
            self.assertIn(part, process.stderr)
        self.assertEqual([line["lr"] for line in metrics(self.run_folder)], [0.01, 0.01, 0.001, 0.001])
        self.assertEqual(setting(self.run_folder, "lr"), "0.001")

    def test_an_end_that_is_passed_already_is_refused(self):
        self.begin("--steps", "3")
        self.before = contents(self.run_folder)
        self.assert_refused(self.train("--steps", "1"), 2, "steps 3 -> 1")


class EarlierFiles(RunFolderTest):
    def test_a_best_checkpoint_alone_is_not_overwritten(self):
        arguments = ["--val", "synthetic:4x2", "--epochs", "1"]
        self.begin(*arguments)
        for path in checkpoints(self.run_folder):
            os.remove(path)
        self.before = contents(self.run_folder)
        self.assert_refused(self.train(*arguments), 4, BEST, "--resume none")
        # The two ways out that the line names.
        best = os.path.join(self.run_folder, BEST)
        process = self.begin("--val", "synthetic:4x2", "--epochs", "2", "--resume", best)
        self.assertIn("step 4", process.stderr)
        self.assertEqual([line["step"] for line in metrics(self.run_folder)], list(range(1, 9)))
        self.begin(*arguments, "--resume", "none")
        self.assertEqual(len(metrics(os.path.join(self.run_folder, "previous-1"))), 8)

    def test_metrics_without_a_checkpoint_are_kept_aside(self):
        self.begin("--steps", "3")
        shutil.rmtree(os.path.join(self.run_folder, "checkpoints"))
        process = self.begin("--steps", "2")
        self.assertIn("is kept in", process.stderr)
        self.assertEqual(len(metrics(os.path.join(self.run_folder, "previous-1"))), 3)
        self.assertEqual(len(metrics(self.run_folder)), 2)

    def test_a_checkpoint_of_another_folder_does_not_mix_two_runs(self):
        self.begin("--steps", "2")
        other = self.path("other")
        self.begin("--steps", "3", "--output-dir", other)
        process = self.begin("--steps", "5", "--output-dir", other, "--resume",
                             checkpoints(self.run_folder)[-1])
        self.assertIn("is kept in", process.stderr)
        self.assertEqual([line["step"] for line in metrics(other)], [3, 4, 5])
        self.assertEqual(losses(self.path("other/previous-1"))[:2], losses(self.run_folder))

    def test_copies_under_other_names_do_no_harm(self):
        self.begin("--steps", "2")
        own = checkpoints(self.run_folder)[-1]
        folder = os.path.dirname(own)
        shutil.copy(own, os.path.join(folder, "backup.safetensors"))
        copy = os.path.join(folder, "step-000000099.safetensors")
        shutil.copy(own, copy)
        process = self.begin("--steps", "6", "--checkpoint-every", "1", "--keep", "1")
        self.assertIn(f"going on from {own}: step 2", process.stderr)
        names = os.listdir(folder)
        self.assertIn("backup.safetensors", names)
        self.assertIn("step-000000099.safetensors.abandoned", names)
        self.assertIn("step-000000006.safetensors", names)

    def test_an_epoch_later_a_batch_of_another_size_is_taken_and_said(self):
        self.begin("--epochs", "1")
        process = self.begin("--epochs", "2", "--batch-size", "4")
        self.assertIn("batch-size 2 -> 4", process.stderr)
        self.assertEqual(metrics(self.run_folder)[-1]["step"], 6)
        # In the middle of an epoch it is refused with the place.
        self.begin("--epochs", "3", "--batch-size", "4", "--steps", "7")
        process = self.train("--epochs", "3", "--batch-size", "3")
        self.assert_error(process, 2, "after 4 images of its epoch", "in batches of 4")


class Settings(RunFolderTest):
    def test_a_run_can_be_repeated_from_its_own_file(self):
        for name in ("runs \"of\" cats #1", " blank ", "a=b", "r\u00e9sum\u00e9\\n"):
            with self.subTest(name=name):
                self.run_folder = self.path(name)
                self.begin("--steps", "1", "--param-group", "*.bias lr-multiplier=3")
                config = os.path.join(self.run_folder, "config.cfg")
                again = run("train", "--config", config)
                self.assert_exit(again, 0)
                self.assertIn("is finished", again.stderr)
                printed = run("train", "--config", config, "--print-config", "--resume", "none")
                self.assert_exit(printed, 0)
                with open(config, encoding="utf-8") as file:
                    self.assertEqual(printed.stdout, file.read())

    def test_what_is_no_file_is_refused_at_once(self):
        pipe = self.path("pipe")
        os.mkfifo(pipe)
        for path, kind in ((pipe, "a pipe"), (self.folder, "a folder"), ("/dev/zero", "a device")):
            self.assert_error(self.train("--config", path), 2, path, kind)
            self.assert_error(self.train("--resume", path), 4, path, kind)
            self.assert_error(run("eval", path, *DATA, *ON_BACKEND), 4, path, kind)
        self.assertFalse(os.path.exists(self.run_folder))

    def test_a_schedule_ends_with_the_steps(self):
        self.begin("--steps", "8", "--lr-scheduler", "poly:1", "--lr", "0.008")
        rates = [line["lr"] for line in metrics(self.run_folder)]
        for step, rate in enumerate(rates):
            self.assertAlmostEqual(rate, 0.008 - 0.001 * step)
        process = self.begin("--steps", "16", "--lr-scheduler", "poly:1", "--lr", "0.008")
        self.assertIn("steps 8 -> 16 (used from here on; --lr-scheduler poly:1 ends there)",
                      process.stderr)
        self.assertAlmostEqual(metrics(self.run_folder)[-1]["lr"], 0.0005)


class StoppedRun(RunFolderTest):
    """The words of --resume, and launch/slurm/train.sbatch, which acts by them."""

    def stop(self, *arguments):
        process = start("train", *SMALL, *DATA, "--epochs", "100000", "--output-dir", self.run_folder,
                        "--print-freq", "1", *arguments)
        lines = []
        while not lines or (lines[-1] and "images/s" not in lines[-1]):
            lines.append(process.stderr.readline())
        process.send_signal(signal.SIGUSR1)
        _, errors = process.communicate(timeout=TIMEOUT_S)
        self.assertEqual(process.returncode, 75, "".join(lines) + errors)
        return errors

    def test_it_says_which_command_goes_on(self):
        self.assertIn("the same command goes on", self.stop())
        self.assertIn("the same command with --resume auto goes on", self.stop("--resume", "none"))
        newest = checkpoints(self.run_folder)[-1]
        self.assertIn("the same command with --resume auto goes on", self.stop("--resume", newest))
        # config.cfg says what a run is, not how it was started.
        self.assertIsNone(setting(self.run_folder, "resume"))

    def submit(self, restarts, *arguments):
        """Runs the script with an srun that stops the ranks after their first lines, and a scontrol
        that writes down what it is asked."""
        folder = self.path("slurm")
        os.makedirs(folder, exist_ok=True)
        srun = (
            '#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\nlines() { wc -l < "$METRICS"; }\n'
            'before=$(lines 2> /dev/null || echo 0)\n"$@" & rank=$!\n'
            'until (($(lines 2> /dev/null || echo 0) > before)) || ! kill -0 $rank; do sleep 0.05; done\n'
            "kill -USR1 $rank\nwait $rank\n"
        )
        for name, text in (("srun", srun), ("scontrol", f'#!/bin/bash\necho "$@" >> {folder}/asked\n')):
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(os.path.join(folder, name), 0o755)
        return subprocess.run(
            ["bash", os.path.join(SOURCE, "launch", "slurm", "train.sbatch"), *SMALL, *DATA,
             "--epochs", "100000", *arguments],
            env=environment(
                PATH=folder + ":" + os.environ["PATH"], SLURM_JOB_ID="7", SLURM_PROCID="0",
                SLURM_RESTART_COUNT=str(restarts),
                METRICS=os.path.join(self.run_folder, "metrics.jsonl"),
            ),
            capture_output=True, text=True, check=False, timeout=TIMEOUT_S, cwd=self.folder,
        )  # fmt: skip

    def test_the_slurm_script_goes_on_with_a_run_that_was_started_anew(self):
        self.begin("--steps", "1")
        self.run_folder = self.path('a "run" #1')
        config = self.path("run.cfg")
        with open(config, "w", encoding="utf-8") as file:
            file.write('output-dir = "a \\"run\\" #1"\n')
        for restarts in (0, 1):
            process = self.submit(restarts, "--config", config, "--resume", "none")
            self.assertEqual(process.returncode, 0, process.stderr)
            self.assertIn("exit code 75: requeueing", process.stdout)
        with open(self.path("slurm/asked"), encoding="utf-8") as file:
            self.assertEqual(file.read(), "requeue 7\n" * 2)
        self.assertNotIn("previous-1", os.listdir(self.run_folder))
        steps = [line["step"] for line in metrics(self.run_folder)]
        self.assertEqual(steps, list(range(1, len(steps) + 1)))
        # A start that is refused is not requeued, whatever the records of the run before say.
        self.before = contents(self.run_folder)
        process = self.submit(2, "--config", config, "--seed", "9")
        self.assertEqual(process.returncode, 4, process.stderr)
        self.assertEqual(contents(self.run_folder), self.before)


class Disk(RunFolderTest):
    def block(self, step):
        """Puts a folder where the checkpoint of the step would be written."""
        os.makedirs(os.path.join(self.run_folder, f"checkpoints/step-{step:09}.safetensors.partial/x"))

    def test_a_checkpoint_that_fails_is_a_warning_with_the_room_that_it_needs(self):
        self.block(1)
        self.block(2)
        process = self.begin("--steps", "3", "--checkpoint-every", "1")
        warnings = [line for line in process.stderr.splitlines() if "no checkpoint of step" in line]
        self.assertEqual(len(warnings), 2, process.stderr)
        for part in ("step-000000001", "a checkpoint needs", "is free", "the run goes on"):
            self.assertIn(part, warnings[0])
        self.assertEqual(len(checkpoints(self.run_folder)), 1)

    def test_the_third_in_a_row_ends_the_run(self):
        for step in (1, 2, 3):
            self.block(step)
        process = self.train("--steps", "9", "--checkpoint-every", "1")
        self.assert_error(process, 5, "step-000000003", "a checkpoint needs", "is free")
        self.assertEqual(len(metrics(self.run_folder)), 3)

    @unittest.skipUnless(shutil.which("cc"), "there is no C compiler")
    def test_a_file_system_without_locks_is_a_warning(self):
        with open(self.path("no_locks.c"), "w", encoding="utf-8") as file:
            file.write("#include <errno.h>\nint flock(int f, int o) { errno = ENOLCK; return -1; }\n")
        library = self.path("no_locks.so")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, self.path("no_locks.c")], check=True)
        process = self.train("--steps", "1", env=environment(LD_PRELOAD=library))
        self.assert_exit(process, 0)
        self.assertIn("cannot be locked", process.stderr)
        self.assertIn("two runs", process.stderr)

    def test_metrics_that_cannot_be_written_are_said_once_and_stop_nothing(self):
        os.makedirs(os.path.join(self.run_folder, "metrics.jsonl"))  # a folder in their place
        process = self.begin("--steps", "3")
        lines = [line for line in process.stderr.splitlines() if "metrics" in line]
        self.assertEqual(len(lines), 1, process.stderr)


if __name__ == "__main__":
    unittest.main()
