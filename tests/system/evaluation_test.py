"""The end of evaluation and prediction: threads of the loader are still reading then."""

import json
import os
import unittest

from convoy import ConvoyTest, checkpoints, run, write_image

IMAGES = 24
ROUNDS = int(os.environ.get("CONVOY_EVALUATION_ROUNDS", "3"))


class EvaluationTest(ConvoyTest):
    """A network so small that the loader is still at work on images that nobody asks for when the
    last batch has been counted."""

    def setUp(self):
        super().setUp()
        self.images = []
        for i in range(IMAGES):
            folder = self.path(f"photos/class{i % 2}")
            os.makedirs(folder, exist_ok=True)
            self.images.append(os.path.join(folder, f"{i:03}.png"))
            write_image(self.images[-1], i, 400, 300, channels=3)
        process = run(
            "train", "--model", "cifar10-quick", "--mean", "none", "--std", "60", "--data",
            self.path("photos"), "--batch-size", "8", "--steps", "2", "--output-dir",
            self.path("run"),
        )  # fmt: skip
        self.assert_exit(process, 0)
        self.checkpoint = checkpoints(self.path("run"))[-1]

    def output(self, *arguments, ranks=0):
        process = run(*arguments, ranks=ranks)
        self.assert_exit(process, 0)
        return process.stdout

    def evaluate(self, workers, ranks=0):
        return self.output(
            "eval", self.checkpoint, "--data", self.path("photos"), "--workers", workers, "--json",
            ranks=ranks,
        )  # fmt: skip

    def test_eval_ends_well_and_says_the_same_every_time(self):
        for ranks in (0, 2):
            expected = self.evaluate(1, ranks)
            self.assertEqual(json.loads(expected)["images"], IMAGES)
            for workers in (1, 2, 4, 8):
                for _ in range(ROUNDS):
                    self.assertEqual(self.evaluate(workers, ranks), expected)

    def test_predict_ends_well_and_says_the_same_every_time(self):
        words = ["predict", "--checkpoint", self.checkpoint, "--json", *self.images[:10]]
        expected = self.output(*words)
        self.assertEqual(len(json.loads(expected)["predictions"]), 10)
        for _ in range(4 * ROUNDS):
            self.assertEqual(self.output(*words), expected)

    def test_geometry_and_resize_are_those_of_the_checkpoint_unless_given(self):
        words = ["eval", self.checkpoint, "--data", self.path("photos"), "--json"]
        by_checkpoint = self.output(*words)
        self.assertEqual(self.output(*words, "--geometry", "square2012", "--resize", "0"), by_checkpoint)
        for given in (["--geometry", "squash"], ["--resize", "64"]):
            process = run(*words, *given)
            self.assert_exit(process, 0)
            self.assertNotEqual(process.stdout, by_checkpoint)
            self.assertIn("crops as given", process.stderr)

    def test_bad_images_are_left_out_or_end_it_as_asked(self):
        with open(self.images[0], "wb") as file:
            file.write(b"no image")
        words = ["eval", self.checkpoint, "--data", self.path("photos"), "--json"]
        self.assertEqual(json.loads(self.output(*words))["images"], IMAGES - 1)
        self.assert_error(run(*words, "--bad-samples", "fail"), 3, self.images[0][-12:])
        self.assert_error(run(*words, "--bad-samples", "substitute"), 2, "expected drop, fail")

    def test_output_that_cannot_be_written_is_an_error(self):
        evaluation = ["eval", self.checkpoint, "--data", self.path("photos"), "--json"]
        for arguments, ranks in (
            (evaluation, 0),
            (evaluation, 2),
            (["summary", "--json"], 0),
            (["--help"], 0),
        ):
            with open("/dev/full", "w", encoding="utf-8") as full:
                process = run(*arguments, ranks=ranks, stdout=full)
            self.assert_error(process, 5, "standard output")
            self.assertIn("No space left", process.stderr)


    def test_a_reader_that_goes_away_is_no_fault(self):
        evaluation = ["eval", self.checkpoint, "--data", self.path("photos"), "--confusion"]
        for arguments in (evaluation, ["summary", "--json"], ["train", "--help"]):
            read, write = os.pipe()
            os.close(read)
            process = run(*arguments, stdout=write)
            os.close(write)
            self.assert_exit(process, 0)
            self.assertNotIn("error: ", process.stderr)


if __name__ == "__main__":
    unittest.main()
