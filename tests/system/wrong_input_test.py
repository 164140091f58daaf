"""Wrong input: the right exit code, and one line that says what, where, expected and found."""

import os
import subprocess
import unittest

from convoy import CONVOY, ONE_THREAD, ConvoyTest, checkpoints, environment, run

SMALL = [
    "--model", "alexnet-bn", "--input", "67", "--steps", "2", "--batch-size", "4", "--mean", "none",
    "--threads", "1", "--workers", "1",
]  # fmt: skip


class WrongInput(ConvoyTest):
    def train(self, *arguments, ranks=0, **options):
        return run(
            "train", *SMALL, "--output-dir", self.path("run"), "--index-folder", self.folder,
            *arguments, ranks=ranks, **options,
        )  # fmt: skip

    def test_missing_path(self):
        self.assert_error(self.train("--data", "/nowhere/at/all"), 3, "/nowhere/at/all")

    def test_missing_path_on_two_ranks_is_said_once(self):
        process = self.train("--data", "/nowhere/at/all", "--towers", "2", ranks=2)
        self.assert_error(process, 3, "/nowhere/at/all")

    def test_empty_class_folder(self):
        os.makedirs(self.path("data/cat"))
        os.makedirs(self.path("data/dog"))
        with open(self.path("data/cat/1.jpg"), "wb") as file:
            file.write(b"\xff\xd8\xff\xe0")
        self.assert_error(self.train("--data", self.path("data")), 3, "dog")

    def test_label_beyond_classes(self):
        process = self.train("--data", "synthetic:40x10", "--classes", "5")
        self.assert_error(process, 2, "10 classes", "--classes 10")

    def test_three_towers(self):
        process = self.train("--data", "synthetic:40x10", "--towers", "3", ranks=3)
        self.assert_error(process, 2, "--towers 3: expected 1 or 2")

    def test_a_world_that_is_not_replicas_times_towers(self):
        process = self.train("--data", "synthetic:40x10", "--towers", "2", "--replicas", "2", ranks=2)
        self.assert_error(process, 2, "needs 4 ranks, the world has 2", "convoyrun -n 4")
        self.assert_error(
            self.train("--data", "synthetic:40x10", "--towers", "2"), 2, "needs a multiple of 2 ranks"
        )

    def test_unknown_option_names_the_nearest(self):
        process = self.train("--data", "synthetic:40x10", "--batchsize", "4")
        self.assert_error(process, 2, "no option --batchsize", "did you mean --batch-size?")

    def test_unknown_value_names_the_nearest(self):
        process = self.train("--data", "synthetic:40x10", "--dtype", "fp31")
        self.assert_error(process, 2, "--dtype fp31: expected fp32, bf16", "did you mean fp32?")

    def test_numbers_that_are_none(self):
        for option, value in (
            ("--mean", "nan"), ("--mean", "1,inf,2"), ("--mean", "1e39"), ("--std", "nan"),
            ("--std", "0"), ("--std", "-1"), ("--std", "1e-50"), ("--lr", "nan"),
            ("--param-group", "* lr=nan"), ("--param-group", "* momentum=inf"),
            ("--dropout", "nan"), ("--activation", "leaky-relu:inf"), ("--colour-strength", "inf"),
            ("--colour-jitter", "0,nan,0"), ("--lr-scheduler", "poly:nan"), ("--deadline", "inf"),
        ):  # fmt: skip
            with self.subTest(option=option, value=value):
                process = self.train("--data", "synthetic:40x10", option, value)
                self.assert_error(process, 2, option, value)

    def test_a_schedule_that_waits_for_evaluations_that_never_come(self):
        plateau = ["--data", "synthetic:40x10", "--lr-scheduler", "plateau:0.1:1"]
        never = ["--val", "synthetic:10x10", "--eval-every", "0"]
        for arguments in ([], never, ["--lr-scheduler", "constant", "--param-group",
                                      "*.bias lr-scheduler=plateau:0.1:1"]):
            self.assert_error(self.train(*plateau, *arguments), 2, "plateau", "no evaluations")
        process = self.train("--data", "synthetic:40x10", "--colour-scheduler", "plateau:0.1:1")
        self.assert_error(process, 2, "--colour-scheduler")

    def test_unknown_subcommand_and_model(self):
        self.assert_error(run("trian"), 2, "did you mean train?")
        self.assert_error(
            self.train("--data", "synthetic:40x10", "--model", "alexnet2021"), 2, "alexnet2012"
        )

    def test_unwritable_output_folder(self):
        process = self.train("--data", "synthetic:40x10", "--output-dir", "/proc/nowhere/run")
        self.assert_error(process, 5, "/proc/nowhere/run")

    def test_two_runs_in_one_folder(self):
        os.makedirs(self.path("run"))
        # Python holds the lock that a run would.
        import fcntl

        with open(self.path("run/.lock"), "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.assert_error(self.train("--data", "synthetic:40x10"), 2, "another run is writing")

    def test_checkpoint_of_another_model(self):
        self.assert_exit(self.train("--data", "synthetic:40x10"), 0)
        process = self.train("--data", "synthetic:40x10", "--norm", "none", "--steps", "4")
        self.assert_error(process, 4, "norm: the model's own in the checkpoint")
        process = self.train("--data", "synthetic:40x10", "--model", "alexnet2012", "--steps", "4")
        self.assert_error(process, 4, "model: alexnet-bn in the checkpoint, alexnet2012 in this run")

    def test_damaged_checkpoints_only(self):
        self.assert_exit(self.train("--data", "synthetic:40x10"), 0)
        for path in checkpoints(self.path("run")):
            os.truncate(path, 1000)
        process = self.train("--data", "synthetic:40x10", "--steps", "4")
        self.assert_error(process, 4, "can be used")

    def test_a_launcher_of_another_mpi(self):
        process = self.train(
            "--data", "synthetic:40x10", env=environment(PMI_SIZE="4", PMI_RANK="0")
        )
        self.assert_error(process, 2, "4")

    @unittest.skipIf(ONE_THREAD, "layers compute on two threads here")
    def test_fewer_processors_than_threads_is_a_warning(self):
        allowed = min(os.sched_getaffinity(0))
        process = subprocess.run(
            ["taskset", "-c", str(allowed), CONVOY, "train", *SMALL, "--data", "synthetic:40x10",
             "--output-dir", self.path("run"), "--threads", "2"],
            capture_output=True, text=True, env=environment(), check=False, timeout=300,
        )  # fmt: skip
        self.assert_exit(process, 0)
        self.assertIn("warning: 2 threads on 1 processors", process.stderr)
        self.assertIn("--bind-to none", process.stderr)

    def test_settings_that_differ_between_ranks(self):
        script = self.path("rank.sh")
        with open(script, "w", encoding="utf-8") as file:
            file.write(
                f'#!/bin/sh\nexec "{CONVOY}" "$@" --seed $OMPI_COMM_WORLD_RANK\n'
            )
        os.chmod(script, 0o755)
        process = subprocess.run(
            ["mpirun", "-n", "2", script, "train", *SMALL, "--data", "synthetic:40x10",
             "--output-dir", self.path("run")],
            capture_output=True, text=True, env=environment(), check=False, timeout=300,
        )  # fmt: skip
        self.assertEqual(process.stderr.count("was given other settings than rank 0"), 1)
        self.assertEqual(process.returncode, 2)

    def test_too_many_bad_images(self):
        os.makedirs(self.path("data/cat"))
        for i in range(20):
            with open(self.path(f"data/cat/{i}.jpg"), "wb") as file:
                file.write(b"no image")
        process = self.train("--data", self.path("data"), "--bad-limit", "3")
        self.assert_error(process, 3, "cat/")

    def test_numbers_that_explode_are_code_7_and_leave_no_bad_checkpoint(self):
        process = self.train(
            "--data", "synthetic:40x10", "--lr", "1000000", "--steps", "20", "--norm", "none",
            "--checkpoint-every", "1", "--keep", "100",
        )  # fmt: skip
        self.assert_error(process, 7, "step ")
        for path in checkpoints(self.path("run")):
            with open(path, "rb") as file:
                self.assertNotIn(b"NaN", file.read(20000))

    def test_full_disk(self):
        # The file size limit stands in for a full disk: no checkpoint fits. Its signal is ignored.
        process = subprocess.run(
            ["bash", "-c", 'ulimit -f 100000; exec "$@"', "bash", CONVOY, "train",
             *SMALL, "--data", "synthetic:40x10", "--output-dir", self.path("run")],
            capture_output=True, text=True, env=environment(), check=False, timeout=300,
        )  # fmt: skip
        self.assert_error(process, 5, "write", "ulimit -f", "a checkpoint needs")
        self.assertEqual(checkpoints(self.path("run")), [])


if __name__ == "__main__":
    unittest.main()
