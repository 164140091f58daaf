"""CUDA where there is no device: one line that says why, and the CPU in its place where that may be."""

import json
import os
import shutil
import subprocess
import unittest

from convoy import BUILD, CONVOY, CONVOYRUN, ConvoyTest, checkpoints, environment, run

MODULE = os.path.join(BUILD, "launch", "libconvoy_cuda.so")
SMALL = [
    "--data", "synthetic:8x2", "--model", "lenet5", "--steps", "1", "--batch-size", "2", "--mean",
    "none", "--threads", "1", "--workers", "1",
]  # fmt: skip


def needed(path):
    """The libraries that the loader must find before the file can be used."""
    text = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
    return [line.split("[")[1].split("]")[0] for line in text.splitlines() if "(NEEDED)" in line]


class NoDeviceTest(ConvoyTest):
    """Skipped where there is a device."""

    @classmethod
    def setUpClass(cls):
        if run("doctor", "--backend", "cuda").returncode == 0:
            raise unittest.SkipTest("there is a CUDA device: nothing is refused")

    def require_module(self):
        if not os.path.exists(MODULE):
            self.skipTest("this build has no CUDA module")

    def assert_refused(self, process, *parts):
        """Exit code 8, and nothing on standard error but one line that says why and what to do."""
        self.assert_error(process, 8, "convoy: error: ", "Hint: ", "--backend cpu", *parts)
        said = [line for line in process.stderr.splitlines() if "convoy" in line]
        self.assertEqual(len(said), 1, process.stderr)
        self.assertEqual(process.stdout, "")


class Commands(NoDeviceTest):
    def train(self, *arguments, ranks=0):
        return run("train", *SMALL, "--output-dir", self.path("run"), *arguments, ranks=ranks)

    def checkpoint(self):
        process = run("train", *SMALL, "--backend", "cpu", "--output-dir", self.path("trained"))
        self.assert_exit(process, 0)
        return checkpoints(self.path("trained"))[-1]

    def test_every_command_refuses_on_one_rank(self):
        checkpoint = self.checkpoint()
        for words in (
            ["train", *SMALL, "--output-dir", self.path("run")],
            ["eval", checkpoint, "--data", "synthetic:8x2"],
            ["predict", "--checkpoint", checkpoint, self.folder],
            ["bench", "step", "--model", "lenet5", "--batch-size", "2"],
            ["bench", "layers", "--model", "lenet5", "--batch-size", "2"],
            ["doctor"],
        ):
            with self.subTest(words[:2]):
                self.assert_refused(run(*words, "--backend", "cuda"))
        self.assertFalse(os.path.exists(self.path("run")))

    def test_two_ranks_say_it_once(self):
        checkpoint = self.checkpoint()
        for words in (
            ["train", *SMALL, "--output-dir", self.path("run")],
            ["eval", checkpoint, "--data", "synthetic:8x2"],
            ["bench", "step", "--model", "lenet5", "--batch-size", "2"],
            ["bench", "layers", "--model", "lenet5", "--batch-size", "2"],
            ["doctor"],
        ):
            with self.subTest(words[:2]):
                self.assert_refused(run(*words, "--backend", "cuda", ranks=2))
        self.assertFalse(os.path.exists(self.path("run")))

    def test_a_refused_run_can_be_started_again(self):
        self.assert_exit(self.train("--backend", "cpu"), 0)
        before = sorted(os.listdir(self.path("run")))
        self.assert_refused(self.train("--backend", "cuda", "--resume", "none"))
        self.assertEqual(sorted(os.listdir(self.path("run"))), before)
        self.assert_exit(self.train("--backend", "cpu", "--steps", "2"), 0)

    def test_auto_trains_on_the_cpu_and_says_so_in_one_line(self):
        for ranks in (0, 2):
            with self.subTest(ranks):
                process = self.train("--backend", "auto", "--resume", "none", ranks=ranks)
                self.assert_exit(process, 0)
                said = [line for line in process.stderr.splitlines() if "--backend auto" in line]
                self.assertEqual(len(said), 1, process.stderr)
                self.assertIn("computing on the CPU, since ", said[0])

    def test_doctor_says_why_and_goes_on_with_the_cpu(self):
        process = run("doctor", "--json")
        self.assert_exit(process, 0)
        said = [line for line in process.stderr.splitlines() if "--backend auto" in line]
        self.assertEqual(len(said), 1, process.stderr)
        found = json.loads(process.stdout)
        self.assertTrue(found["backend"].startswith("cpu"), found["backend"])
        self.assertIn(found["why_not_cuda"], said[0])
        self.assertNotIn("devices", found)
        asked = json.loads(run("doctor", "--json", "--backend", "cpu").stdout)
        self.assertNotIn("why_not_cuda", asked)

    def test_the_cache_of_kernels_is_left_alone_on_the_cpu(self):
        self.assert_exit(self.train("--backend", "cpu", "--kernel-cache", self.path("cache")), 0)
        self.assertFalse(os.path.exists(self.path("cache")))


class Files(NoDeviceTest):
    def program_alone(self):
        """A copy of the program without what stands beside it."""
        folder = self.path("alone")
        os.makedirs(folder)
        return shutil.copy(CONVOY, folder)

    def test_the_program_needs_no_library_of_cuda(self):
        for library in needed(CONVOY):
            for part in ("cuda", "cudart", "cudnn", "cublas", "nccl", "nvidia", "nvrtc"):
                self.assertNotIn(part, library)

    def test_the_module_needs_no_driver(self):
        self.require_module()
        libraries = needed(MODULE)
        self.assertTrue(any(library.startswith("libcudart.so") for library in libraries), libraries)
        self.assertFalse([name for name in libraries if name.startswith("libcuda.so")])

    def test_without_the_module_the_program_says_so(self):
        program = self.program_alone()
        one = environment(LD_LIBRARY_PATH="")
        for command in (
            [program, "doctor", "--backend", "cuda"],
            [CONVOYRUN, "-n", "2", "doctor", "--backend", "cuda"],
        ):
            process = subprocess.run(
                command, capture_output=True, text=True, timeout=300, check=False,
                env=dict(one, CONVOY=program),
            )  # fmt: skip
            self.assert_refused(process, "built without CUDA", "libconvoy_cuda.so")
        process = subprocess.run(
            [program, "doctor"], capture_output=True, text=True, timeout=300, check=False, env=one
        )
        self.assert_exit(process, 0)
        self.assertIn("since this Convoy was built without CUDA", process.stderr)

    def test_a_module_that_cannot_be_loaded_names_what_is_missing(self):
        program = self.program_alone()
        with open(os.path.join(os.path.dirname(program), "libconvoy_cuda.so"), "wb") as file:
            file.write(b"not a library")
        process = subprocess.run(
            [program, "doctor", "--backend", "cuda"],
            capture_output=True, text=True, timeout=300, check=False,
            env=environment(LD_LIBRARY_PATH=os.path.dirname(program)),
        )  # fmt: skip
        self.assert_refused(process, "the CUDA backend cannot be loaded", "libconvoy_cuda.so")

    def test_with_the_module_the_driver_or_the_device_is_what_is_missing(self):
        self.require_module()
        process = run("doctor", "--backend", "cuda")
        self.assert_refused(process)
        self.assertNotIn("built without CUDA", process.stderr)


if __name__ == "__main__":
    unittest.main()
