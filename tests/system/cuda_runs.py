"""Real runs on a CUDA device. tests/gpu runs these with CONVOY_BACKEND=cuda, ctest does not.

Kernels are chosen by their times, so two fresh runs may differ in the last bits. Runs that are
compared bit by bit go on from one checkpoint, which keeps the choice.
"""

import os
import shutil
import subprocess
import unittest

import equality_test
import resume_test
from convoy import BACKEND, BUILD, ConvoyTest, checkpoints, environment, losses, run, tensors

STEPS = 24


@unittest.skipUnless(BACKEND == "cuda", "CONVOY_BACKEND is not cuda")
class CudaTest(ConvoyTest):
    def skip_without_nccl(self, least):
        version = int(os.environ.get("CONVOY_NCCL_VERSION", "0"))
        if version < least:
            self.skipTest(f"NCCL {version}: this needs {least} or newer")


class Launcher(CudaTest):
    def test_collectives_of_host_memory_work_under_this_mpirun(self):
        program = os.path.join(BUILD, "tests", "mpi_checks")
        found = subprocess.run(
            ["mpirun", "-n", "4", program], capture_output=True, text=True, env=environment(),
            check=False, timeout=120,
        )  # fmt: skip
        self.assert_exit(found, 0)


class OneRank(CudaTest):
    def go_on(self, name, first, *options, env=None):
        """Returns the losses and last tensors of a run that goes on from the checkpoint of `first`."""
        folder = self.path(name)
        shutil.copytree(first, folder)
        # A later option wins.
        process = run(*resume_test.settings(folder, 1), *options, env=env)
        self.assert_exit(process, 0)
        return losses(folder), tensors(checkpoints(folder)[-1])

    def first(self):
        folder = self.path("first")
        words = resume_test.settings(folder, 1)
        words[words.index("--steps") + 1] = "5"
        self.assert_exit(run(*words), 0)
        return folder

    def assert_same(self, found, expected):
        self.assertEqual(len(found[0]), STEPS)
        self.assertEqual(found[0], expected[0])
        self.assertEqual(found[1], expected[1])

    def test_recorded_steps_are_bitwise_those_queued_one_by_one(self):
        first = self.first()
        recorded = self.go_on("recorded", first, "--cuda-graph", "on")
        self.assert_same(self.go_on("queued", first, "--cuda-graph", "off"), recorded)
        self.assertNotEqual(tensors(checkpoints(first)[-1]), recorded[1])

    def test_nccl_with_one_rank_changes_no_bit(self):
        self.skip_without_nccl(20000)
        first = self.first()
        staged = self.go_on("staged", first)
        self.assert_same(self.go_on("nccl", first, "--communicator", "nccl"), staged)


class NcclOnOneDevice(equality_test.CutsUnderMpirun, CudaTest):
    """Two ranks that NCCL connects on one device. NCCL 2.30 and newer do that if they are told to."""

    def setUp(self):
        super().setUp()
        self.skip_without_nccl(23000)
        self.require_photos()
        os.environ["NCCL_MULTI_RANK_GPU_ENABLE"] = "1"
        self.addCleanup(os.environ.pop, "NCCL_MULTI_RANK_GPU_ENABLE")

    def test_every_cut_gives_the_losses_of_one_rank(self):
        one = self.train("one")
        nccl = ["--communicator", "nccl"]
        self.compare(self.train("towers", "--towers", "2", *nccl, ranks=2), one)
        self.compare(self.train("replicas", "--replicas", "2", *nccl, ranks=2), one)
        self.compare(self.train("shards", "--fc-shards", "2", *nccl, ranks=2), one)
        words = ["--fc-shards", "2", "--accumulate", "3", *nccl]
        self.compare(self.train("micro-batches", *words, ranks=2), one)


if __name__ == "__main__":
    unittest.main()
