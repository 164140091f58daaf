"""How ranks are started, and ranks that differ: one line that names what differs, and code 2."""

import unittest

from convoy import ConvoyTest, environment, run

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


if __name__ == "__main__":
    unittest.main()
