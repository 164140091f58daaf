"""How ranks are started, and ranks that differ: one line that names what differs, and code 2."""

import os
import shutil
import subprocess
import unittest

from convoy import CONVOY, CONVOYRUN, TIMEOUT_S, ConvoyTest, environment, metrics, run

SMALL = [
    "--data", "synthetic:16x2", "--model", "lenet5", "--steps", "2", "--batch-size", "2",
    "--mean", "none", "--threads", "1", "--workers", "1", "--backend", "cpu",
]  # fmt: skip


class SlurmShell(ConvoyTest):
    """Where a user types or a script starts convoy without srun, Slurm's variables are no ranks."""

    JOB = {"SLURM_JOB_ID": "7", "SLURM_JOBID": "7", "SLURM_NODELIST": "node", "SLURM_NTASKS": "4"}
    # srun --pty bash, with the variables of srun --mpi=pmi2 and pmix.
    INTERACTIVE = {
        **JOB, "SLURM_STEP_ID": "0", "SLURM_STEPID": "0", "SLURM_PROCID": "0",
        "SLURM_STEP_NUM_TASKS": "4", "SLURM_PTY_PORT": "40000", "PMI_SIZE": "4", "PMI_RANK": "0",
        "PMIX_RANK": "0", "PMIX_NAMESPACE": "slurm.pmix.7.0",
    }  # fmt: skip

    def test_commands_of_one_process_run_there(self):
        self.assert_exit(run("summary", "--json", env=environment(**self.INTERACTIVE)), 0)

    def test_training_with_one_rank_runs_there(self):
        for name, variables in ("job", self.JOB), ("interactive", self.INTERACTIVE):
            process = run(
                "train", *SMALL, "--output-dir", self.path(name), env=environment(**variables)
            )
            self.assert_exit(process, 0)

    def test_ranks_of_srun_that_mpi_does_not_see_are_an_error(self):
        variables = {key: self.INTERACTIVE[key] for key in (
            "SLURM_STEP_ID", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS")}  # fmt: skip
        process = run("summary", env=environment(**variables))
        self.assert_error(process, 2, "4 were started")


class RanksThatDiffer(ConvoyTest):
    """Nothing is trained: one line on standard error names the rank and what differs."""

    def start(self, *other, program=CONVOY, launcher="mpirun"):
        """Two ranks; rank 1 is given the options `other` too, and is `program`."""
        options = ["train", *SMALL, "--output-dir", self.path("run")]
        if launcher == "mpirun":
            command = ["mpirun", "-n", "1", CONVOY, *options, ":", "-n", "1", program, *options, *other]
            variables = environment()
        else:
            script = self.path("rank.sh")
            with open(script, "w", encoding="utf-8") as file:
                file.write(
                    "#!/bin/bash\n"
                    f'[[ $OMPI_COMM_WORLD_RANK == 0 ]] && exec "{CONVOY}" "$@"\n'
                    f'exec "{program}" "$@" {" ".join(other)}\n'
                )
            os.chmod(script, 0o755)
            command = [CONVOYRUN, "-n", "2", *options]
            variables = dict(environment(), CONVOY=script)
        process = subprocess.run(
            command, capture_output=True, text=True, env=variables, check=False, timeout=TIMEOUT_S
        )
        self.assertFalse(os.path.exists(self.path("run")))
        return process

    def test_an_option_misspelt_on_one_rank(self):
        for launcher in "mpirun", "convoyrun":
            process = self.start("--lrr", "3", launcher=launcher)
            self.assert_error(process, 2, "rank 1 (", "there is no option --lrr", "did you mean --lr?")

    def test_an_option_misspelt_on_all_ranks_is_said_once(self):
        process = run("train", *SMALL, "--lrr", "3", ranks=2)
        self.assert_error(process, 2, "error: convoy train: there is no option --lrr")

    def test_settings_that_differ(self):
        process = self.start("--lr", "0.5", "--seed", "7", "--resume", "none")
        self.assert_error(
            process, 2, "other settings than rank 0: rank 1 (", "lr 0.5 (rank 0: 0.01)",
            "seed 7 (rank 0: 0)", "resume none (rank 0: auto)",
        )  # fmt: skip

    def test_another_command(self):
        process = subprocess.run(
            ["mpirun", "-n", "1", CONVOY, "doctor", ":", "-n", "1", CONVOY, "bench", "comm"],
            capture_output=True, text=True, env=environment(), check=False, timeout=TIMEOUT_S,
        )  # fmt: skip
        self.assert_error(process, 2, "command convoy bench comm (rank 0: convoy doctor)")

    def test_another_build(self):
        # Bytes after the program's own are not looked at when it runs.
        program = self.path("convoy")
        shutil.copy(CONVOY, program)
        with open(program, "ab") as file:
            file.write(b"another build")
        process = self.start(program=program)
        self.assert_error(process, 2, "different programs: rank 1 (", "build ", "same build of convoy")


class TimesOfRanks(ConvoyTest):
    def test_every_epoch_has_the_times_of_the_ranks(self):
        process = run(
            "train", *SMALL, "--steps", "12", "--output-dir", self.path("run"), ranks=2
        )
        self.assert_exit(process, 0)
        lines = metrics(self.path("run"), "ranks")
        self.assertEqual([(line["step"], line["epoch"]) for line in lines], [(8, 0), (12, 1)])
        for line in lines:
            self.assertGreater(line["min_ms"], 0)
            self.assertLessEqual(line["min_ms"], line["median_ms"])
            self.assertLessEqual(line["median_ms"], line["max_ms"])
            self.assertIn(line["slowest_rank"], (0, 1))
        self.assertIn("ms a step without waiting for each other", process.stderr)


if __name__ == "__main__":
    unittest.main()
