"""2000 photographs of ten classes, trained from scratch in bf16 on a CUDA device to the accuracy that
the CPU reaches (docs/results.md). tests/gpu runs this, ctest does not."""

import os
import unittest

from convoy import BACKEND, ConvoyTest, ON_BACKEND, PHOTOS, metrics, run

# On the CPU, three seeds of each: 64.4 to 67.1 % and 68.9 to 69.6 %. One image of the 450 is 0.22 %;
# two points below the worst seed leave room for another.
LEAST_TOP1 = {"learnable-2012": 62.4, "learnable-bn": 66.9}


@unittest.skipUnless(BACKEND == "cuda", "CONVOY_BACKEND is not cuda")
class Learns(ConvoyTest):
    def train(self, recipe):
        self.require_photos()
        folder = self.path(recipe)
        process = run(
            "train", "--recipe", recipe, "--data", f"{PHOTOS}:train", "--val", f"{PHOTOS}:val",
            "--dtype", "bf16", "--seed", "0", "--output-dir", folder, "--index-folder", self.folder,
            "--workers", max(1, (os.cpu_count() or 2) - 1), *ON_BACKEND,
        )  # fmt: skip
        self.assert_exit(process, 0)
        top1 = [line["top1"] for line in metrics(folder, "eval")]
        print(f"{recipe}, bf16, seed 0: top-1 after each epoch: {top1}", flush=True)
        self.assertGreaterEqual(top1[-1], LEAST_TOP1[recipe])

    def test_the_two_towers_with_lrn_learn(self):
        self.train("learnable-2012")

    def test_the_network_with_batch_norm_learns(self):
        self.train("learnable-bn")


if __name__ == "__main__":
    unittest.main()
