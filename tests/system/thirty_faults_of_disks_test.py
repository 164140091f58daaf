"""Faults 4 to 9, 11 and 12 of the thirty: checkpoints, disks, and numbers that are none."""

import json
import math
import os
import shutil
import struct
import unittest

from convoy import checkpoints, losses, metrics, run, tensors
from fault_case import ENDLESS, HAS_MOUNTS, HAS_STRACE, FaultTest

TEN = ["--steps", "10", "--checkpoint-every", "5", "--keep", "5"]

def files(folder):
    return sorted(os.listdir(os.path.join(folder, "checkpoints")))


class Checkpoints(FaultTest):
    def setUp(self):
        super().setUp()
        self.assert_exit(self.train("whole", *TEN), 0)

    def partly(self, name):
        """A copy of the run as it was after its fifth step."""
        if not os.path.exists(self.path("half")):
            self.assert_exit(self.train("half", *TEN, "--steps", "5"), 0)
        shutil.copytree(self.path("half"), self.path(name))
        return os.path.join(self.path(name), "checkpoints", "step-000000005.safetensors")

    @unittest.skipUnless(HAS_STRACE, "strace is not installed, or may not trace")
    def test_04_killed_while_a_checkpoint_is_written(self):
        for stage, call, nth in (
            ("before it is created", "openat", 1), ("at its first write", "pwrite64", 1),
            ("at its third write", "pwrite64", 3), ("at its sync", "fsync", 1),
            ("at its rename", "rename", 1), ("at the sync of the folder", "fsync", 2),
        ):  # fmt: skip
            name = f"{call}-{nth}"
            before = tensors(self.partly(name))
            path = os.path.join(self.path(name), "checkpoints", "step-000000010.safetensors.partial")
            process = self.under_strace(
                [f"{call}:signal=KILL:when={nth}"], self.words(name, *TEN),
                [path, os.path.dirname(path)] if nth == 2 else [path],
            )  # fmt: skip
            self.saw(f"kill -9 {stage}", process, -9)
            self.assertEqual(tensors(os.path.dirname(path) + "/step-000000005.safetensors"), before)
            line = "a save was interrupted" if os.path.exists(path) else "going on from|is finished"
            self.saw("the same command again", self.train(name, *TEN), 0, line)
            self.assert_same_run(name, "whole")
            self.assertNotIn(os.path.basename(path), files(self.path(name)))

    def test_06_torn_checkpoints(self):
        size = os.path.getsize(self.newest("whole"))
        for kept in 0, 4, 1000, size // 2, size - 1:
            name = f"torn-{kept}"
            shutil.copytree(self.path("whole"), self.path(name))
            os.truncate(self.newest(name), kept)
            process = self.train(name, *TEN)
            line = f"skipping a checkpoint: .*step-000000010.*{kept}" if kept else "skipping a checkpoint: "
            self.saw(f"{kept} bytes of {size} are left", process, 0, line)
            self.assertIn("going on from", process.stderr)
            self.assert_same_run(name, "whole")
        for path in checkpoints(self.path(name)):
            os.truncate(path, 1000)
        self.saw("all are torn", self.train(name, *TEN), 4, "none of the 2 checkpoints in .* can be used")

    def test_07_a_flipped_bit(self):
        whole = self.newest("whole")
        size = os.path.getsize(whole)
        with open(whole, "rb") as file:
            (header,) = struct.unpack("<Q", file.read(8))
        for place in 3, 8 + header // 2, 8 + header + 5, (8 + header + size) // 2, size - 1:
            name = f"flipped-{place}"
            shutil.copytree(self.path("whole"), self.path(name))
            with open(self.newest(name), "r+b") as file:
                file.seek(place)
                byte = file.read(1)[0]
                file.seek(place)
                file.write(bytes([byte ^ 0x10]))
            part = r"tensor \S+ at byte \d+: its checksum is" if place > 8 + header else ".*header"
            process = self.train(name, *TEN)
            self.saw(f"a bit of byte {place}", process, 0, f"skipping a checkpoint: .*{part}")
            self.assert_same_run(name, "whole")
        shutil.copytree(self.path(name), self.path("alone"))
        for path in checkpoints(self.path("alone")):
            with open(path, "r+b") as file:
                file.seek(size - 1)
                file.write(b"\x7f")
        self.saw("of all", self.train("alone", *TEN), 4, "can be used")
        process = run("eval", self.newest("alone"), "--data", "synthetic:8x10", "--backend", "cpu")
        self.saw("eval of it", process, 4, "its checksum is")

    def test_08_a_checkpoint_of_another_run(self):
        for did, words, line in (
            ("another model", ["--model", "cifar10-quick"], "model: lenet5 in the checkpoint, cifar10-quick"),
            ("another seed", ["--seed", "4"], "seed: 0 in the checkpoint, 4"),
            ("other classes", ["--data", "synthetic:60x9"], "classes: 10 in the checkpoint, 9"),
        ):
            process = self.train("whole", *TEN, "--steps", "20", *words)
            self.saw(did, process, 4, line)
        process = self.train("whole", *TEN, "--steps", "12", "--dtype", "bf16")
        self.saw("another --dtype", process, 0, "dtype fp32 -> bf16")


class Disks(FaultTest):
    @unittest.skipUnless(HAS_MOUNTS, "mount namespaces are not allowed")
    def test_05_a_disk_that_fills_up(self):
        disk = self.path("disk")
        os.makedirs(disk)
        words = self.words("disk/run", *ENDLESS, "--checkpoint-every", "20")
        mount = 'mount -t tmpfs -o size=%dk none "$DISK" || exit 99\n'
        process = self.in_mounts(mount % 20000 + """
            "$0" "$@" & convoy=$!
            until compgen -G "$DISK/run/checkpoints/step-*.safetensors" > /dev/null; do sleep 0.01; done
            head -c 100M /dev/zero > "$DISK/filler" 2> /dev/null
            wait $convoy; code=$?
            ls "$DISK/run/checkpoints"
            exit $code""", words, DISK=disk)  # fmt: skip
        self.saw("a tmpfs is filled", process, 5, r"error: .*write.*a checkpoint needs .* is free")
        self.assertEqual(process.stderr.count("the run goes on, but 3 failures in a row end it"), 2)
        self.assertNotIn("partial", process.stdout)
        self.assertIn("step-", process.stdout)
        process = self.in_mounts(mount % 900 + 'exec "$0" "$@"', words, DISK=disk)
        self.saw("0.9 MB of room at the start", process, 5, "has .* free, checkpoints need")

    @unittest.skipUnless(HAS_STRACE, "strace is not installed, or may not trace")
    def test_05_one_write_that_fails(self):
        self.assert_exit(self.train("whole", *TEN), 0)
        partial = os.path.join(self.path("run"), "checkpoints", "step-000000005.safetensors.partial")
        for fault in "pwrite64:error=ENOSPC:when=2", "fsync:error=EIO:when=1":
            process = self.under_strace([fault], self.words("run", *TEN), [partial])
            self.saw(fault.replace(":error=", " gives "), process, 0, "no checkpoint of step 5: .* is free")
            self.assertEqual(files(self.path("run")), ["step-000000010.safetensors"])
            self.assert_same_run("run", "whole")
            shutil.rmtree(self.path("run"))
        process = self.under_strace(["pwrite64:error=EINTR:when=1+2"], self.words("run", *TEN), [partial])
        self.saw("every other write is interrupted", process, 0)
        self.assertEqual(len(files(self.path("run"))), 2)

    @unittest.skipUnless(HAS_MOUNTS, "mount namespaces are not allowed")
    def test_09_a_folder_that_may_not_be_written(self):
        self.assert_exit(self.train("run", "--steps", "2"), 0)
        before = len(metrics(self.path("run")))
        for part in "", "/checkpoints":
            folder = self.path("run") + part
            process = self.in_mounts(
                'mount --bind "$FOLDER" "$FOLDER" && mount -o remount,ro,bind "$FOLDER" || exit 99\n'
                'exec "$0" "$@"', self.words("run", "--steps", "4"), FOLDER=folder,
            )  # fmt: skip
            self.saw(f"run{part} is read-only", process, 5, "Read-only file system")
            self.assertEqual(len(metrics(self.path("run"))), before)

    @unittest.skipUnless(HAS_STRACE, "strace is not installed, or may not trace")
    def test_09_a_stale_handle(self):
        self.assert_exit(self.train("run", "--steps", "2"), 0)
        words = self.words("run", "--steps", "4")
        for folder in self.path("run"), self.path("run/checkpoints"):
            process = self.under_strace(["openat:error=ESTALE"], words, [folder, folder + "/.lock"])
            self.saw(f"{os.path.basename(folder)} is stale", process, 5, "Stale file handle")
        self.assertEqual(len(metrics(self.path("run"))), 2)


class Numbers(FaultTest):
    def test_11_numbers_that_are_none(self):
        for ranks in 0, 2:
            name = f"run-{ranks}"
            process = self.train(
                name, "--lr", "1e6", "--steps", "60", "--checkpoint-every", "1", "--keep", "60", ranks=ranks
            )
            did = f"--lr 1e6 on {max(ranks, 1)} rank(s)"
            self.saw(did, process, 7, r"step \d+: \S+ .*is not finite \(rank \d, loss \S+\)")
            found = checkpoints(self.path(name))
            self.assertTrue(found)
            for path in found:
                for content in tensors(path).values():
                    values = struct.unpack(f"<{len(content) // 4}f", content)
                    self.assertTrue(all(map(math.isfinite, values)), path)

    def test_12_a_loss_that_jumps(self):
        words = ["--data", "synthetic:400x10", "--steps", "110", "--lr-scheduler", "piecewise:2=1"]
        process = self.train("run", *words)
        self.saw("--lr from 0.001 to 1 at step 100", process, 0, r"warning: step \d+: the loss jumped to ")
        first = metrics(self.path("run"), "loss_spike")[0]
        self.assertGreater(first["step"], 100)
        self.assertGreater(first["loss"], first["mean"] + 6 * first["deviation"])
        self.assertEqual(losses(self.path("run"))[first["step"] - 1], first["loss"])
        self.assertTrue(json.dumps(first))


if __name__ == "__main__":
    unittest.main()
