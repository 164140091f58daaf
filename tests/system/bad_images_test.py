"""Images that cannot be decoded: how many are put up with, and that nothing is worked out from none."""

import json
import os
import unittest

import convoy

SMALL = ["--model", "lenet5", "--threads", "1", "--workers", "1", *convoy.ON_BACKEND]


class BadImages(convoy.ConvoyTest):
    def images(self, name, good, bad=0):
        """A set of so many good and so many bad images, in two classes."""
        for i in range(good + bad):
            path = self.path(f"{name}/{'cat' if i % 2 else 'dog'}/{i:03}.png")
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if i < good:
                convoy.write_image(path, i)
            else:
                with open(path, "w", encoding="utf-8") as file:
                    file.write("<!DOCTYPE html>")
        return self.path(name)

    def train(self, data, *arguments, ranks=0, run="run"):
        return convoy.run("train", *SMALL, "--data", data, "--mean", "none", "--batch-size", "10",
                          "--index-folder", self.folder, "--output-dir", self.path(run), *arguments,
                          ranks=ranks)  # fmt: skip

    def test_they_are_counted_over_all_ranks(self):
        data = self.images("data", 50, 10)
        for limit, code in ("", 3), ("--bad-limit=10", 0):
            steps = set()
            for ranks in 1, 2, 3:
                run = f"run-{ranks}{limit}"
                process = self.train(data, "--epochs", "1", *filter(None, [limit]), ranks=ranks,
                                     run=run)  # fmt: skip
                self.assert_exit(process, code)
                if code == 3:
                    self.assertIn("9 bad samples in epoch 0, at most 8 expected", process.stderr)
                steps.add(len(convoy.metrics(self.path(run))))
            self.assertEqual(len(steps), 1, "the same place on any number of ranks")

    def test_a_score_of_no_image_is_an_error(self):
        good, bad = self.images("good", 4), self.images("bad", 0, 4)
        self.assert_exit(self.train(good, "--steps", "1"), 0)
        best = convoy.checkpoints(self.path("run"))[-1]
        for ranks in 0, 2:
            process = convoy.run("eval", best, "--data", bad, "--json", *convoy.ON_BACKEND, ranks=ranks)
            self.assert_error(process, 3, "4 bad samples", "at most 3")
            self.assertEqual(process.stdout, "")
        self.assert_error(self.train(good, "--val", bad, "--steps", "1", run="other"), 3, "4 bad")
        self.assertFalse(os.path.exists(self.path("other/checkpoints/best.safetensors")))
        for policy in "substitute", "drop", "fail":
            process = self.train(bad, "--steps", "1", "--bad-samples", policy, run=policy)
            self.assert_exit(process, 3)

    def test_evaluation_says_how_many_it_left_out(self):
        data = self.images("data", 10, 2)
        self.assert_exit(self.train(data, "--val", data, "--steps", "1"), 0)
        best = convoy.checkpoints(self.path("run"))[-1]
        for ranks in 1, 2:
            process = convoy.run("eval", best, "--data", data, "--json", *convoy.ON_BACKEND, ranks=ranks)
            self.assert_exit(process, 0)
            result = json.loads(process.stdout)
            self.assertEqual((result["images"], result["left_out"]), (10, 2))
        process = convoy.run("eval", best, "--data", data, *convoy.ON_BACKEND)
        self.assertIn("10 images (2 bad ones left out)", process.stdout)
        process = convoy.run("eval", best, "--data", data, "--bad-samples", "fail", *convoy.ON_BACKEND)
        self.assert_error(process, 3, "bad sample")


if __name__ == "__main__":
    unittest.main()
