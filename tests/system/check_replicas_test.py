"""--check-replicas: ranks that hold the same weights compare them. It changes no number; and if a bit
of one rank's memory changes in the middle of a run, the rank is named and no checkpoint is written."""

import json
import os
import time
import unittest

import resume_test
from convoy import BACKEND, ON_BACKEND, ConvoyTest, checkpoints, losses, run, start, tensors

FROZEN = "conv1.* lr-scheduler=piecewise:0=0"  # its weights stay what they are in the first checkpoint


class CheckReplicasTest(ConvoyTest):
    def command(self, name, *options):
        """Trains into the folder `name`; a later option wins."""
        return [
            "train", "--data", "synthetic:100000x10", "--model", "lenet5", "--batch-size", "7", "--lr",
            "0.001", "--mean", "none", "--std", "60", "--threads", "1", "--workers", "1",
            "--print-freq", "1000000", "--output-dir", self.path(name), *ON_BACKEND, *options,
        ]  # fmt: skip

    @unittest.skipIf(BACKEND == "cuda", "two runs may choose other kernels")
    def test_it_changes_no_number(self):
        cut = ["--replicas", "2", "--fc-shards", "2", "--steps", "12"]
        self.assert_exit(run(*self.command("without", *cut), ranks=4), 0)
        self.assert_exit(run(*self.command("with", *cut, "--check-replicas", "5"), ranks=4), 0)
        self.assertEqual(losses(self.path("with")), losses(self.path("without")))
        self.assertEqual(
            tensors(checkpoints(self.path("with"))[-1]), tensors(checkpoints(self.path("without"))[-1])
        )

    @unittest.skipUnless(BACKEND == "cpu", "CONVOY_BACKEND is not cpu")
    def test_a_rank_whose_memory_changes_is_named_and_leaves_no_checkpoint(self):
        self.check_a_changed_bit(["--check-replicas", "5"])

    @unittest.skipUnless(BACKEND == "cpu", "CONVOY_BACKEND is not cpu")
    def test_weights_are_compared_before_each_checkpoint_too(self):
        self.check_a_changed_bit(["--check-replicas", "1000000", "--checkpoint-every", "50"])

    def check_a_changed_bit(self, options):
        """Of three replicas, rank 1 gets one wrong bit in weights that no update corrects."""
        folder = self.path("run")
        command = self.command("run", "--param-group", FROZEN, "--replicas", "3", *options)
        self.assert_exit(run(*command, "--steps", "3", ranks=3), 0)
        frozen = tensors(checkpoints(folder)[-1])["conv1.weight"]
        done = resume_test.steps_written(folder)
        process = start(*command, ranks=3)
        self.addCleanup(process.communicate)
        self.addCleanup(process.terminate)
        while process.poll() is None and resume_test.steps_written(folder) == done:
            time.sleep(0.01)
        victim = self.process_of_rank(1)
        self.assertGreater(change_a_bit(victim, frozen), 0)
        _, errors = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 7, errors)
        lines = [line for line in errors.splitlines() if "error: " in line]
        self.assertEqual(len(lines), 1, errors)
        self.assertRegex(
            lines[0],
            r"step \d+: conv1.weight of rank 1 \(.+\) differs from that of ranks 0 \(.+\), 2 \(.+\)",
        )
        for path in checkpoints(folder):
            self.assertEqual(tensors(path)["conv1.weight"], frozen)
        for rank in range(3):
            with open(os.path.join(folder, f"exit.{rank}.json"), encoding="utf-8") as file:
                self.assertEqual(json.load(file)["code"], 7)
        # The same command goes on from there.
        step = int(checkpoints(folder)[-1][-21:-12])
        process = run(*command, "--steps", step + 2, ranks=3)
        self.assert_exit(process, 0)
        self.assertIn("going on from", process.stderr)

    def process_of_rank(self, rank):
        names = {f"{name}={rank}".encode() for name in ("OMPI_COMM_WORLD_RANK", "PMI_RANK")}
        for pid in resume_test.rank_processes(self.path("run")):
            with open(f"/proc/{pid}/environ", "rb") as file:
                if names & set(file.read().split(b"\0")):
                    return pid
        return self.fail(f"rank {rank} is not there")


def change_a_bit(pid, content):
    """Changes a bit of every copy of `content` in the memory of a process; returns how many there are."""
    changed = 0
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
        regions = [line.split() for line in maps]
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        for region in regions:
            begin, end = (int(address, 16) for address in region[0].split("-"))
            if not region[1].startswith("rw"):
                continue
            try:
                memory.seek(begin)
                held = memory.read(end - begin)
            except OSError:  # of a device
                continue
            at = held.find(content)
            while at >= 0:
                memory.seek(begin + at)
                memory.write(bytes([held[at] ^ 1]))
                changed += 1
                at = held.find(content, at + 1)
    return changed


if __name__ == "__main__":
    unittest.main()
