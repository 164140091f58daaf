"""A validation set without images of some class: names tell which class is which."""

import json
import os
import unittest

from convoy import ConvoyTest, checkpoints, metrics, run, write_image

SMALL = [
    "--model", "lenet5", "--steps", "2", "--batch-size", "2", "--mean", "none", "--threads", "1",
    "--workers", "1", "--backend", "cpu",
]  # fmt: skip


class ValidationWithoutAClass(ConvoyTest):
    def write_set(self, name, classes):
        for number, label in enumerate(classes):
            os.makedirs(self.path(f"{name}/{label}"))
            for i in range(2):
                write_image(self.path(f"{name}/{label}/{i}.png"), seed=10 * number + i)
        return self.path(name)

    def train(self, validation):
        return run(
            "train", *SMALL, "--data", self.path("train"), "--val", validation,
            "--output-dir", self.path("run"),
        )  # fmt: skip

    def test_training_and_evaluation_go_by_names(self):
        self.write_set("train", "abc")
        validation = self.write_set("val", "ac")
        process = self.train(validation)
        self.assert_exit(process, 0)
        self.assertIn("none of class b", process.stderr)
        self.assertEqual([line["images"] for line in metrics(self.path("run"), "eval")], [4])
        process = run(
            "eval", checkpoints(self.path("run"))[-1], "--data", validation, "--confusion", "--json",
            "--threads", "1", "--backend", "cpu",
        )  # fmt: skip
        self.assert_exit(process, 0)
        result = json.loads(process.stdout)
        self.assertEqual(result["classes"], ["a", "b", "c"])
        self.assertEqual([sum(row) for row in result["confusion"]], [2, 0, 2])

    def test_a_class_that_is_not_trained_is_an_error(self):
        self.write_set("train", "abc")
        self.assert_error(self.train(self.write_set("val", "ad")), 3, "class d of", "none of the 3 classes")


if __name__ == "__main__":
    unittest.main()
