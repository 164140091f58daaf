"""Faults 16 to 20 of the thirty, on the emulated device of tests/emulation: devices that are not
there, too few, too small, of other versions, or broken."""

import os
import re
import unittest

from convoy import EMULATED_MODULE, checkpoints, environment, losses, tensors
from fault_case import ENDLESS, FaultTest

CUDA = ["--backend", "cuda", "--kernel-cache", "none"]
SHARED = ["--share-device", "on"]


def emulated(**variables):
    """The environment in which the emulated device stands in the CUDA module's place."""
    folders = [EMULATED_MODULE, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return {"LD_LIBRARY_PATH": ":".join(folders), "CONVOY_EMULATED_DEVICES": "1", **variables}


@unittest.skipUnless(os.path.isdir(EMULATED_MODULE), "the emulated device is not built")
class Devices(FaultTest):
    def on_device(self, name, *arguments, ranks=0, **variables):
        return self.train(name, *CUDA, *arguments, ranks=ranks, env=environment(**emulated(**variables)))

    def test_16_versions_that_differ(self):
        rank = self.on_rank(1, CONVOY_EMULATED_RUNTIME="12090")
        process = self.train("run", *CUDA, *SHARED, "--steps", "1", ranks=2, env={**rank, **emulated()})
        self.saw("rank 1 has the runtime 12.9", process, 2, r"rank 0 \(.*13\.0.*rank 1 \(.*12\.9")
        self.assertFalse(os.path.exists(self.path("run")))
        self.gtest("other versions, of NCCL too", "trainer_test", "RequireSameLibraries.*")

    def test_17_no_device(self):
        process = self.on_device("run", "--steps", "1", CONVOY_EMULATED_DEVICES="0")
        self.saw("no device is visible", process, 8, "error: .*no emulated.*--backend cpu")
        process = self.on_device("run", "--steps", "1", "--backend", "auto", CONVOY_EMULATED_DEVICES="0")
        self.saw("the same with --backend auto", process, 0, "computing on the CPU, since")
        process = self.train("real", "--backend", "cuda", "--steps", "1")
        self.saw("this build, with no device visible", process, 8, "error: .*--backend cpu")

    def test_18_fewer_devices_than_ranks(self):
        process = self.on_device("run", "--steps", "1", ranks=2)
        self.saw("two ranks, one device", process, 2, "would share the device GPU-0.*--share-device on")
        process = self.on_device("run", "--steps", "1", *SHARED, ranks=2)
        self.saw("with --share-device on", process, 0, "done")

    def test_19_out_of_memory(self):
        words = ["--data", "synthetic:10000x10"]
        self.assert_exit(self.on_device("run", *words, "--steps", "2"), 0)
        before = tensors(self.newest("run"))
        big = [*words, "--steps", "4", "--batch-size", "2000", "--resume", "none"]
        process = self.on_device("run", *big, CONVOY_EMULATED_MEMORY_MB="20")
        self.saw("2000 images on 20 MB", process, 8, "of 20 MB are free.*rows per rank would fit")
        self.assertEqual(tensors(self.newest("run")), before)
        rows = re.search(r"about (\d+) rows", process.stderr)[1]
        process = self.on_device(
            "other", *words, "--steps", "1", "--batch-size", rows, CONVOY_EMULATED_MEMORY_MB="20"
        )
        self.saw(f"the {rows} that it names", process, 0, "done")

    def test_20_a_device_that_breaks(self):
        fault = self.path("fault")
        variables = emulated(CONVOY_EMULATED_FAULT=fault)
        words = [*CUDA, *SHARED, "--towers", "2", "--checkpoint-every", "5"]
        process = self.start("run", *ENDLESS, *words, ranks=2, env=environment(**variables))
        self.wait_for("run", 12, process)
        with open(fault + "-0", "w", encoding="utf-8"):
            pass
        did = "every call fails from here on"
        line = rf"error: \[rank \d on {os.uname().nodename}\] .*cuda:0 has failed"
        self.saw(did, self.end_of(process), 8, line)
        kept = checkpoints(self.path("run"))
        self.assertTrue(kept)
        os.remove(fault + "-0")
        last = int(kept[-1][-21:-12])
        steps = [*ENDLESS, *words, "--steps", str(last + 10)]
        process = self.train("run", *steps, ranks=2, env=environment(**variables))
        self.saw("the same command, and the device is whole", process, 0, f"going on from .*: step {last}")
        self.assert_exit(self.train("whole", *steps, ranks=2, env=environment(**variables)), 0)
        self.assertEqual(losses(self.path("run")), losses(self.path("whole")))


if __name__ == "__main__":
    unittest.main()
