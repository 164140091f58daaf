"""Images that cannot be decoded: how many are put up with, and that nothing is worked out from none."""

import json
import os
import struct
import unittest

import convoy

SMALL = ["--model", "lenet5", "--threads", "1", "--workers", "1", *convoy.ON_BACKEND]


class Images(convoy.ConvoyTest):
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


class BadImages(Images):
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

    def test_a_batch_without_a_good_image_has_no_loss(self):
        data = self.images("data", 1, 8)
        process = self.train(data, "--batch-size", "1", "--epochs", "1", "--bad-samples", "drop",
                             "--print-freq", "1")  # fmt: skip
        self.assert_exit(process, 0)
        losses = [line["loss"] for line in convoy.metrics(self.path("run"))]
        unknown = losses.count(None)
        self.assertTrue(0 < unknown < 9, losses)
        self.assertEqual(losses, [None] * unknown + [losses[-1]] * (9 - unknown))
        self.assertEqual(process.stderr.count("loss unknown"), unknown)

    def test_evaluation_says_how_many_it_left_out(self):
        data = self.images("data", 10, 2)
        self.assert_exit(self.train(data, "--val", data, "--steps", "1"), 0)
        (evaluation,) = convoy.metrics(self.path("run"), "eval")
        self.assertEqual((evaluation["images"], evaluation["left_out"]), (10, 2))
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


class Mean(Images):
    """Of images of one level, so that it tells which images it is of."""

    def grey(self, name, level, good=6, bad=0):
        data = self.images(name, good, bad)
        for folder in "cat", "dog":
            for image in os.listdir(os.path.join(data, folder)):
                path = os.path.join(data, folder, image)
                if int(image[:3]) < good:
                    convoy.write_image(path, 0, pixels=bytes([level]) * 28 * 28)
        return data

    def train_mean(self, data, *arguments, ranks=0, code=0, run="run"):
        process = convoy.run("train", *SMALL, "--data", data, "--mean", "image", "--batch-size", "2",
                             "--index-folder", self.folder, "--output-dir", self.path(run),
                             "--steps", "1", *arguments, ranks=ranks)  # fmt: skip
        self.assert_exit(process, code)
        return process.stderr

    def mean(self, run="run"):
        values = convoy.tensors(convoy.checkpoints(self.path(run))[-1])["preprocessing.mean"]
        return struct.unpack("<f", values[:4])[0]

    def stats(self, data, *arguments, ranks=0):
        return convoy.run("data", "stats", data, "--resize", "28", "--channels", "1", "--json",
                          "--index-folder", self.folder, *arguments, ranks=ranks)  # fmt: skip

    def test_it_leaves_bad_images_out_up_to_the_limit(self):
        data = self.grey("data", 50, 40, 10)
        for ranks in 1, 2, 3:
            self.assert_error(self.stats(data, ranks=ranks), 3, "bad samples, at most 8 expected")
            process = self.stats(data, "--bad-limit", "10", ranks=ranks)
            self.assert_exit(process, 0)
            result = json.loads(process.stdout)
            self.assertEqual((result["images"], result["left_out"]), (40, 10))
            self.assertEqual(result["channel_mean"], [50.0])
            self.assertEqual(process.stderr.count("the mean leaves out"), 10)
        self.assert_error(self.stats(data, "--bad-samples", "fail"), 3, "bad sample ")
        os.remove(result["file"])
        self.train_mean(data, code=3, run="default")
        self.train_mean(data, "--bad-limit", "10", "--bad-samples", "fail", code=3, run="fail")
        errors = self.train_mean(data, "--bad-limit", "10")
        self.assertEqual(errors.count("the mean leaves out"), 10)
        self.assertEqual(self.mean(), 50.0)

    def test_it_is_worked_out_once_and_anew_if_images_were_replaced(self):
        data = self.grey("data", 50)
        self.assertIn("working out the mean of all 6", self.train_mean(data, run="first"))
        self.assertNotIn("working out", self.train_mean(data, run="second"))
        self.assertNotIn("working out", self.train_mean(data + "/../data", ranks=2, run="third"))
        self.assertEqual([self.mean("first"), self.mean("third")], [50.0, 50.0])
        self.grey("data", 200)
        for name in os.listdir(os.path.join(data, "cat")):
            os.utime(os.path.join(data, "cat", name), (1e9, 1e9))  # no clock is that fine
        errors = self.train_mean(data)
        self.assertIn("images have changed since", errors)
        self.assertEqual(self.mean(), 200.0)
        self.assertNotIn("working out", self.train_mean(data, run="last"))

    def test_its_file_replaces_no_other(self):
        data = self.grey("data", 50)
        image = os.path.join(data, "cat", "001.png")
        with open(image, "rb") as file:
            before = file.read()
        self.assert_error(self.stats(data, "--output", image), 2, image)
        with open(image, "rb") as file:
            self.assertEqual(file.read(), before)
        for _ in range(2):
            self.assert_exit(self.stats(data, "--output", self.path("mean")), 0)


if __name__ == "__main__":
    unittest.main()
