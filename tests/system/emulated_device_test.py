"""The program on the emulated device of tests/emulation, loaded in the CUDA module's place: all that
`--backend cuda` does between the command line and the files it writes, without a device.

In fp32 a loss agrees with the CPU's to 1e-6, and to 1e-5 after a few steps at a rate of 1e-5: the
two add up in another order, and a sum of 10,000 products in single precision differs by about 1e-7
of itself with its order. Seven batch norms, which divide by the deviation of four images, multiply
that: there the CPU itself is 2e-6 from the oracle, and both agree to 1e-5.
"""

import json
import math
import os
import re
import struct
import time
import unittest

from convoy import BACKEND, ON_BACKEND, ConvoyTest, checkpoints, environment
from convoy import losses, metrics, run, start, tensors, write_image

NETWORKS = {
    "lenet5": ["--model", "lenet5", "--batch-size", "8", "--steps", "10"],
    "cifar10-quick": ["--model", "cifar10-quick", "--batch-size", "4", "--steps", "4"],
    "alexnet2012": ["--model", "alexnet2012", "--input", "67", "--batch-size", "2", "--steps", "2"],
    "alexnet-bn": ["--model", "alexnet-bn", "--input", "67", "--batch-size", "4", "--steps", "2"],
}  # fmt: skip
FIRST_LOSS, LATER_LOSSES = 1e-6, 1e-5
DEVICE = "cuda:0: emulated"
STAGED = "by way of host memory: ranks 0 and 1 share GPU-0"


@unittest.skipUnless(BACKEND == "emulated", "CONVOY_BACKEND is not emulated")
class EmulatedDeviceTest(ConvoyTest):
    def command(self, name, *options, network="lenet5"):
        """Trains into the folder `name`; a later option wins."""
        return [
            "train", "--data", "synthetic:60x10", *NETWORKS[network], "--lr", "0.00001", "--mean",
            "none", "--std", "60", "--threads", "1", "--workers", "1", "--output-dir",
            self.path(name), *ON_BACKEND, *options,
        ]  # fmt: skip

    def train(self, name, *options, network="lenet5", ranks=0, code=0, env=None):
        process = run(*self.command(name, *options, network=network), ranks=ranks, env=env)
        self.assert_exit(process, code)
        return process

    def newest(self, name):
        return checkpoints(self.path(name))[-1]

    def assert_losses_agree(self, name, expected, first=FIRST_LOSS):
        found, expected = losses(self.path(name)), losses(self.path(expected))
        self.assertEqual(len(found), len(expected))
        self.assertAlmostEqual(found[0], expected[0], delta=first * expected[0])
        for a, b in zip(found, expected):
            self.assertAlmostEqual(a, b, delta=LATER_LOSSES * b)

    def assert_same_bits(self, name, expected):
        self.assertEqual(losses(self.path(name)), losses(self.path(expected)))
        self.assertEqual(tensors(self.newest(name)), tensors(self.newest(expected)))


class OneRank(EmulatedDeviceTest):
    def test_losses_are_those_of_the_cpu(self):
        for network in NETWORKS:
            with self.subTest(network):
                process = self.train(f"{network}-cuda", network=network)
                self.assertIn(DEVICE, process.stderr)
                process = self.train(f"{network}-cpu", "--backend", "cpu", network=network)
                self.assertNotIn(DEVICE, process.stderr)
                first = LATER_LOSSES if network == "alexnet-bn" else FIRST_LOSS
                self.assert_losses_agree(f"{network}-cuda", f"{network}-cpu", first)

    def test_auto_takes_the_device_where_there_is_one(self):
        process = self.train("auto", "--backend", "auto")
        self.assertIn(DEVICE, process.stderr)
        self.train("cuda")
        self.assert_same_bits("auto", "cuda")
        none = environment(CONVOY_EMULATED_DEVICES="0")
        process = self.train("none", "--backend", "auto", env=none)
        self.assertIn(
            "--backend auto: computing on the CPU, since there is no emulated device", process.stderr
        )
        self.assert_error(self.train("none", "--resume", "none", env=none, code=8), 8, "no emulated")

    def test_recorded_steps_are_bitwise_those_queued_one_by_one(self):
        for micro_batches in ("1", "3"):
            words = ["--lr", "0.01", "--accumulate", micro_batches]
            self.train(f"recorded-{micro_batches}", *words)
            self.train(f"queued-{micro_batches}", *words, "--cuda-graph", "off")
            self.assert_same_bits(f"queued-{micro_batches}", f"recorded-{micro_batches}")

    def test_nccl_with_one_rank_changes_no_bit(self):
        self.train("without")
        process = self.train("with", "--communicator", "nccl")
        self.assertIn("NCCL 2.28.9", process.stderr)
        self.assert_same_bits("with", "without")

    def test_the_log_says_how_long_kernels_were_chosen(self):
        self.assertRegex(self.train("run").stderr, r"kernels of \d+ products chosen in [\d.]+ s")

    def test_bf16_stays_near_fp32(self):
        self.train("fp32")
        self.train("bf16", "--dtype", "bf16")
        found, expected = losses(self.path("bf16")), losses(self.path("fp32"))
        self.assertEqual(len(found), len(expected))
        self.assertNotEqual(found[0], expected[0])
        for a, b in zip(found, expected):
            self.assertAlmostEqual(a, b, delta=2**-8 * b)  # bf16 has 8 bits

    def test_a_run_of_the_cpu_goes_on_on_the_device(self):
        self.train("cpu", "--backend", "cpu")
        self.train("both", "--backend", "cpu", "--steps", "5")
        process = self.train("both")
        self.assertIn("going on from", process.stderr)
        self.assertIn(DEVICE, process.stderr)
        self.assert_losses_agree("both", "cpu")

    def test_an_absurd_learning_rate_ends_with_code_7_and_leaves_finite_checkpoints(self):
        process = self.train(
            "run", "--lr", "1e6", "--steps", "60", "--checkpoint-every", "1", "--keep", "60", code=7
        )
        last = metrics(self.path("run"))[-1]["step"]
        self.assert_error(process, 7, f"step {last + 1}: ", "fc5.", " is not finite", "--lr")
        self.assertGreater(len(checkpoints(self.path("run"))), 1)
        for path in checkpoints(self.path("run")):
            for name, content in tensors(path).items():
                values = struct.unpack(f"<{len(content) // 4}f", content)
                self.assertTrue(all(map(math.isfinite, values)), f"{name} of {path}")

    def test_an_absurd_learning_rate_is_found_where_steps_are_queued_ahead(self):
        process = self.train("run", "--lr", "1e6", "--steps", "60", code=7)
        last = metrics(self.path("run"))[-1]["step"]
        self.assert_error(process, 7, f"step {last + 1}: ", "fc5.", " is not finite", "--lr")

    def test_every_step_counts_the_time_that_the_device_took(self):
        self.train("run", "--checkpoint-every", "2", network="cifar10-quick")
        rates = [row["images_per_s"] for row in metrics(self.path("run")) if "loss" in row]
        self.assertEqual(len(rates), 4)
        # What it takes to queue a step is a thousandth of what the step takes.
        self.assertLess(max(rates), 100 * min(rates))

    def test_evaluation_and_prediction_agree_with_the_cpu(self):
        self.train("run", "--lr", "0.01")
        for seed in range(3):
            write_image(self.path(f"{seed}.png"), seed)
        images = [self.path(f"{seed}.png") for seed in range(3)]

        def on(backend, *words):
            process = run(*words, "--backend", backend, "--kernel-cache", "none", "--json")
            self.assert_exit(process, 0)
            return json.loads(process.stdout)

        for views in ("1", "10"):
            words = ["eval", self.newest("run"), "--data", "synthetic:50x10", "--views", views]
            device, cpu = on("cuda", *words), on("cpu", *words)
            self.assertEqual(device["images"], 50)
            self.assertAlmostEqual(device["loss"], cpu["loss"], delta=FIRST_LOSS * cpu["loss"])
            self.assertAlmostEqual(device["top5"], cpu["top5"], delta=2)  # one image, at a tie
        words = ["predict", "--checkpoint", self.newest("run"), *images]
        device, cpu = on("cuda", *words)["predictions"], on("cpu", *words)["predictions"]
        self.assertEqual(len(device), len(images))
        for a, b in zip(device, cpu):
            self.assertEqual(a["image"], b["image"])
            found = {entry["class"]: entry["probability"] for entry in a["candidates"]}
            for entry in b["candidates"]:
                self.assertAlmostEqual(found[entry["class"]], entry["probability"], delta=FIRST_LOSS)

    def test_the_kernel_cache_and_the_checkpoint_hold_what_was_chosen(self):
        self.train("run", "--kernel-cache", self.path("cache"))
        (name,) = os.listdir(self.path("cache"))
        with open(os.path.join(self.path("cache"), name), encoding="utf-8") as file:
            self.assertIn("conv1 forward", file.read())
        with open(self.newest("run"), "rb") as file:
            self.assertIn(b"conv1 forward", file.read(1 << 16))

    def test_benches_print_a_result(self):
        words = ["--model", "lenet5", "--batch-size", "4", "--threads", "1", *ON_BACKEND, "--json"]
        # What is measured beside the steps takes what they leave.
        process = run("bench", "step", *words, env=environment(CONVOY_EMULATED_MEMORY_MB="30"))
        self.assert_exit(process, 0)
        found = json.loads(process.stdout)
        self.assertLess(found["device_memory_bytes"], 30e6)
        self.assertIn(DEVICE, found["backend"])
        self.assertGreater(found["images_per_s"], 0)
        self.assertGreater(found["limit_images_per_s"], 0)
        process = run("bench", "layers", *words)
        self.assert_exit(process, 0)
        self.assertIn("conv1 forward", process.stdout)

    def test_a_batch_that_does_not_fit_is_refused_with_the_rows_that_would(self):
        small = environment(CONVOY_EMULATED_MEMORY_MB="20")
        words = ["--data", "synthetic:10000x10", "--steps", "1"]
        process = self.train("run", *words, "--batch-size", "2000", env=small, code=8)
        self.assert_error(process, 8, "activations of 2000 rows need ", " of 20 MB are free")
        rows = int(re.search(r"about (\d+) rows per rank would fit", process.stderr).group(1))
        self.assertLess(rows, 2000)
        self.train("run", *words, "--batch-size", rows, env=small)

    def test_doctor_prints_the_device(self):
        process = run("doctor", "--backend", "cuda")
        self.assert_exit(process, 0)
        self.assertRegex(process.stdout, r"(?m)^ +0 .* 0  emulated +0000:00:00.0 +GPU-0 ")
        self.assertIn("one rank: nothing is exchanged", process.stdout)
        self.assertIn("nothing is wrong", process.stdout)


class SeveralRanks(EmulatedDeviceTest):
    def check_cut(self, network, cut, ranks):
        self.train("one", network=network)
        process = self.train("cut", *cut, network=network, ranks=ranks)
        self.assertIn(STAGED, process.stderr)
        self.assert_losses_agree("cut", "one")

    def test_two_towers_have_the_losses_of_one_rank(self):
        self.check_cut("alexnet2012", ["--towers", "2"], 2)

    def test_two_replicas_have_the_losses_of_one_rank(self):
        self.check_cut("cifar10-quick", ["--replicas", "2"], 2)

    def test_two_replicas_of_two_towers_have_the_losses_of_one_rank(self):
        self.check_cut("lenet5", ["--towers", "2", "--replicas", "2"], 4)

    def check_against_cpu(self, network, options, ranks):
        """The losses and, by them, the gradients of a cut are those of the CPU under the same cut."""
        process = self.train("cuda", *options, network=network, ranks=ranks)
        self.assertIn(DEVICE, process.stderr)
        self.train("cpu", *options, "--backend", "cpu", network=network, ranks=ranks)
        self.assert_losses_agree("cuda", "cpu")
        self.train("one", network=network)
        self.assert_losses_agree("cuda", "one")

    def test_two_shards_have_the_losses_of_the_cpu(self):
        self.check_against_cpu("alexnet2012", ["--fc-shards", "2"], 2)

    def test_four_shards_have_the_losses_of_the_cpu(self):
        self.check_against_cpu("lenet5", ["--fc-shards", "4"], 4)

    def test_two_shards_of_two_towers_have_the_losses_of_the_cpu(self):
        self.check_against_cpu("lenet5", ["--fc-shards", "2", "--towers", "2"], 4)

    def test_micro_batches_have_the_losses_of_the_cpu(self):
        """Of 3, 3 and 2 images on one rank and on two; the last batch of an epoch has two of them."""
        for ranks in (0, 2):
            with self.subTest(ranks):
                self.folder = self.path(f"of-{ranks}")
                os.makedirs(self.folder)
                self.check_against_cpu("lenet5", ["--accumulate", "3"], ranks)

    def test_recorded_shards_and_micro_batches_are_bitwise_those_queued_one_by_one(self):
        words = ["--fc-shards", "2", "--accumulate", "2", "--lr", "0.01"]
        self.train("recorded", *words, ranks=2)
        self.train("queued", *words, "--cuda-graph", "off", ranks=2)
        self.assert_same_bits("queued", "recorded")

    def test_bf16_on_two_ranks_stays_near_one(self):
        self.train("one", "--dtype", "bf16")
        self.train("towers", "--dtype", "bf16", "--towers", "2", ranks=2)
        self.train(
            "replicas", "--dtype", "bf16", "--reduce-dtype", "bf16", "--replicas", "2", ranks=2
        )
        for name in ("towers", "replicas"):
            for a, b in zip(losses(self.path(name)), losses(self.path("one"))):
                self.assertAlmostEqual(a, b, delta=2**-8 * b)

    def test_evaluation_on_two_ranks_counts_each_image_once(self):
        self.train("run", "--lr", "0.01")
        words = ["eval", self.newest("run"), "--data", "synthetic:51x10", "--json", *ON_BACKEND]
        one = json.loads(run(*words).stdout)
        for cut in (["--towers", "2"], ["--replicas", "2"], ["--fc-shards", "2"]):
            process = run(*words, *cut, ranks=2)
            self.assert_exit(process, 0)
            found = json.loads(process.stdout.splitlines()[-1])
            self.assertEqual(found["images"], 51)
            self.assertAlmostEqual(found["loss"], one["loss"], delta=FIRST_LOSS * one["loss"])

    def test_an_absurd_learning_rate_is_named_once(self):
        for cut in ("--towers", "--replicas", "--fc-shards"):
            process = self.train(
                cut, cut, "2", "--lr", "1e6", "--steps", "60", "--checkpoint-every", "2", ranks=2, code=7
            )
            self.assert_error(process, 7, "step ", "fc5.", " is not finite")

    def test_benches_time_what_shards_exchange(self):
        process = run(
            "bench", "step", "--model", "lenet5", "--batch-size", "4", "--threads", "1", "--fc-shards",
            "2", "--steps", "2", "--warm-up", "1", "--json", *ON_BACKEND, ranks=2,
        )  # fmt: skip
        self.assert_exit(process, 0)
        found = [row["operation"] for row in json.loads(process.stdout)["operations"]]
        self.assertIn("rows exchange forward", found)
        self.assertTrue(any(name.endswith("to loss exchange forward") for name in found), found)

    def test_ranks_that_would_share_a_device_are_refused(self):
        for words in (
            ["doctor"],
            ["bench", "step", "--model", "lenet5", "--batch-size", "2"],
            ["train", "--data", "synthetic:8x2", "--model", "lenet5", "--output-dir", self.path("run")],
        ):
            with self.subTest(words[0]):
                process = run(*words, "--backend", "cuda", ranks=2)
                self.assert_error(process, 2, "would share the device GPU-0", "--share-device on")
        self.assertFalse(os.path.exists(self.path("run")))

    def test_nccl_that_cannot_connect_the_ranks_is_refused_once(self):
        process = self.train("run", "--communicator", "nccl", ranks=2, code=2)
        self.assert_error(process, 2, "NCCL cannot connect these ranks", "--communicator auto")

    def test_doctor_measures_the_ranks_of_a_shared_device(self):
        process = run("doctor", "--towers", "2", "--json", *ON_BACKEND, ranks=2)
        self.assert_exit(process, 0)
        devices = json.loads(process.stdout)["devices"]
        self.assertIn(STAGED, devices["collectives"])
        self.assertEqual(len(devices["ranks"]), 2)
        for rank in devices["ranks"]:
            (group,) = rank["all_reduces"]
            self.assertEqual((group["group"], group["wrong_elements"]), ("towers", 0))

    def test_ranks_with_devices_of_their_own_take_one_each(self):
        two = environment(CONVOY_EMULATED_DEVICES="2")
        self.train("one")
        process = self.train("two", "--share-device", "off", "--communicator", "mpi", ranks=2, env=two)
        self.assertIn("by way of host memory, as asked", process.stderr)
        self.assert_losses_agree("two", "one")
        # Left to choose, they take NCCL.
        process = self.train("nccl", "--share-device", "off", ranks=2, env=two, code=8)
        self.assertIn("[rank 0 on ", process.stderr)
        self.assertIn("the emulated device has NCCL for one rank only", process.stderr)


class DevicesThatFail(EmulatedDeviceTest):
    """A device that fails in the middle of a run ends it with code 8, and the same command goes on."""

    def check(self, device, *options, ranks=0, devices=1):
        options = ["--steps", "40", "--lr", "0.01", "--checkpoint-every", "4", *options]
        fault = self.path("fault")
        env = environment(CONVOY_EMULATED_FAULT=fault, CONVOY_EMULATED_DEVICES=str(devices))
        self.train("whole", *options, ranks=ranks, env=env)
        process = start(*self.command("run", *options), ranks=ranks, env=env)
        while process.poll() is None and len(checkpoints(self.path("run"))) < 2:
            time.sleep(0.01)
        with open(f"{fault}-{device}", "w", encoding="utf-8"):
            pass
        _, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 8, errors)
        self.assertIn(f"the emulated device cuda:{device} has failed", errors)
        os.remove(f"{fault}-{device}")
        process = self.train("run", *options, ranks=ranks, env=env)
        self.assertIn("going on from", process.stderr)
        self.assert_same_bits("run", "whole")

    def test_of_one_rank(self):
        self.check(0)

    def test_that_two_towers_share(self):
        self.check(0, "--towers", "2", ranks=2)

    def test_of_one_replica_of_two(self):
        self.check(1, "--share-device", "off", "--communicator", "mpi", ranks=2, devices=2)


if __name__ == "__main__":
    unittest.main()
