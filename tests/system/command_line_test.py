"""The command line: numbers of the summary, help, files of settings, evaluation, prediction."""

import json
import os
import re
import unittest

from convoy import ConvoyTest, PHOTOS, SHARED, checkpoints, metrics, run


class Summary(ConvoyTest):
    def summary(self, *arguments):
        process = run("summary", *arguments, "--json")
        self.assert_exit(process, 0)
        return json.loads(process.stdout)

    def test_the_two_towers_have_the_published_numbers(self):
        found = self.summary("--model", "alexnet2012", "--towers", "2")
        self.assertEqual(found["parameters"], 60965224)
        self.assertEqual(found["multiply_adds"], 724406816)
        self.assertEqual(found["neurons"], 659272)
        self.assertEqual([rank["parameters"] for rank in found["ranks"]], [32531112, 28434112])
        bytes_of = {(row["from"], row["to"], row["name"]): row["bytes_per_image"] for row in found["exchange"]}
        self.assertEqual(
            bytes_of,
            {
                (0, 1, "pool2 to conv3"): 86528,
                (1, 0, "pool2 to conv3"): 86528,
                (0, 1, "pool5 to fc6"): 18432,
                (1, 0, "pool5 to fc6"): 18432,
                (0, 1, "drop6 to fc7"): 8192,
                (1, 0, "drop6 to fc7"): 8192,
                (1, 0, "drop7 to fc8"): 8192,
            },
        )
        self.assertEqual(
            found["exchange_bytes_per_image"], {"all": 234496, "0_to_1": 113152, "1_to_0": 121344}
        )

    def test_shards_have_what_each_rank_receives(self):
        cut = ("--fc-shards", "2", "--batch-size", "64")
        found = self.summary(*cut)
        self.assertEqual([rank["bytes_per_step"] for rank in found["ranks"]], [13921280] * 2)
        self.assertEqual(found["exchange"], [])
        self.assertIn("31,649,652 parameters     13,921,280 bytes", run("summary", *cut).stdout)
        self.assertEqual(self.summary("--program", "--rank", "1", *cut)["bytes"], 13921280)
        self.assert_error(run("summary", "--program", "--rank", "2", *cut), 2, "ranks 0 to 1")

    def test_other_inputs_and_models_are_computed(self):
        self.assertEqual(self.summary("--input", "227")["parameters"], 60965224)
        self.assertLess(self.summary("--input", "128")["parameters"], 60965224)
        self.assertEqual(self.summary("--model", "alexnet-half")["parameters"], 59798312)
        self.assertEqual(self.summary("--classes", "10")["parameters"], 60965224 - 990 * 4097)


class Help(ConvoyTest):
    def test_every_subcommand_has_help_and_says_nothing_on_standard_error(self):
        for words in (
            [], ["train"], ["eval"], ["predict"], ["summary"], ["doctor"], ["data"], ["bench"],
            ["data", "index"], ["data", "stats"], ["data", "verify"], ["data", "pack"],
            ["bench", "step"], ["bench", "layers"], ["bench", "loader"], ["bench", "comm"],
        ):  # fmt: skip
            process = run(*words, "--help")
            self.assert_exit(process, 0)
            self.assertIn("Usage", process.stdout)
            self.assertEqual(process.stderr, "")

    def test_names_may_have_underscores(self):
        self.assert_exit(run("summary", "--label_smoothing", "0.1"), 0)

    def test_version(self):
        self.assertRegex(run("--version").stdout, r"^convoy \d+\.\d+\.\d+\n$")


class Settings(ConvoyTest):
    def resolved(self, *arguments):
        process = run(
            "train", "--data", "synthetic:8x2", "--model", "lenet5", "--steps", "1", "--batch-size",
            "2", "--mean", "none", "--output-dir", self.path("run"), "--resume", "none", *arguments,
        )  # fmt: skip
        self.assert_exit(process, 0)
        with open(self.path("run/config.cfg"), encoding="utf-8") as file:
            return [line.split(" = ", 1) for line in file.read().splitlines()]

    def test_the_command_line_wins_over_the_file_and_the_file_over_the_recipe(self):
        with open(self.path("my.cfg"), "w", encoding="utf-8") as file:
            file.write("# mine\nlr = 0.5   # high\nmomentum=0.1\nweight_decay = 0.2\n")
        found = dict(
            self.resolved("--config", self.path("my.cfg"), "--recipe", "alexnet2012", "--momentum",
                          "0.3", "--param-group", "*.bias lr=0.1")
        )  # fmt: skip
        self.assertEqual(found["lr"], "0.5")
        self.assertEqual(found["momentum"], "0.3")
        self.assertEqual(found["weight-decay"], "0.2")
        self.assertEqual(found["lr-scheduler"], "piecewise:25=0.001,51=0.0001,79=0.00001")
        self.assertEqual(found["model"], "lenet5")
        self.assertEqual(found["param-group"], "*.bias lr=0.1")

    def test_every_recipe_is_accepted(self):
        names = re.search(r"--recipe NAME(.*?)\n\n", run("train", "--help").stdout, re.S).group(1)
        names = re.findall(r"[a-z0-9-]+", names.split(":")[1])
        self.assertGreaterEqual(len(names), 6)
        for name in names:
            # The smallest model that has what the recipe sets, and what its schedule needs.
            small = []
            if "paper" in name:
                small = ["--model", "alexnet-half", "--input", "64", "--val", "synthetic:2x2"]
            elif "large-batch" in name:
                small = ["--model", "alexnet-bn", "--input", "67", "--batch-size", "2"]
            with self.subTest(name):
                self.resolved("--recipe", name, "--classes", "2", *small)

    def test_the_written_settings_can_be_read_again(self):
        first = self.resolved("--lr", "0.125")
        os.rename(self.path("run/config.cfg"), self.path("saved.cfg"))
        process = run("train", "--config", self.path("saved.cfg"), "--resume", "none")
        self.assert_exit(process, 0)
        with open(self.path("run/config.cfg"), encoding="utf-8") as file:
            again = [line.split(" = ", 1) for line in file.read().splitlines()]
        self.assertEqual(first, again)

    def test_wrong_lines_are_named(self):
        with open(self.path("bad.cfg"), "w", encoding="utf-8") as file:
            file.write("lr = 0.1\nbatchsize = 3\n")
        process = run("train", "--data", "synthetic:8", "--config", self.path("bad.cfg"))
        self.assert_error(process, 2, "bad.cfg", "--batchsize", "did you mean --batch-size?")
        self.assert_error(
            run("train", "--data", "synthetic:8", "--recipe", "alexnet2021"), 2, "alexnet2012"
        )


class EvaluationAndPrediction(ConvoyTest):
    def setUp(self):
        super().setUp()
        self.require_photos()
        process = run(
            "train", "--data", f"{PHOTOS}:train", "--val", f"{PHOTOS}:val", "--model", "alexnet-bn",
            "--input", "67", "--batch-size", "32", "--steps", "8", "--lr", "0.01", "--mean",
            "channel", "--std", "60,60,60", "--output-dir", self.path("run"), "--index-folder",
            self.folder,
        )  # fmt: skip
        self.assert_exit(process, 0)
        self.checkpoint = checkpoints(self.path("run"))[-1]

    def evaluate(self, *arguments, ranks=0):
        process = run(
            "eval", *arguments, "--data", f"{PHOTOS}:val", "--index-folder", self.folder, "--json",
            ranks=ranks,
        )  # fmt: skip
        self.assert_exit(process, 0)
        return json.loads(process.stdout.splitlines()[-1])

    def test_each_image_is_counted_once_on_any_number_of_ranks(self):
        one = self.evaluate(self.checkpoint)
        self.assertEqual(one["images"], 450)
        trained = metrics(self.path("run"), "eval")[-1]
        self.assertEqual(trained["images"], 450)
        # The same images one by one; batches of other sizes round differently in fp32.
        self.assertAlmostEqual(one["loss"], trained["loss"], delta=1e-5)
        self.assertEqual(one["top1"], trained["top1"])
        for ranks, cut in ((2, ["--towers", "2"]), (2, []), (3, []), (4, ["--towers", "2"])):
            found = self.evaluate(self.checkpoint, *cut, "--batch-size", "13", ranks=ranks)
            self.assertEqual(found["images"], 450)
            self.assertAlmostEqual(found["loss"], one["loss"], delta=1e-5)
            self.assertAlmostEqual(found["top5"], one["top5"], delta=0.5)

    def test_ten_views_confusion_and_ensembles(self):
        ten = self.evaluate(self.checkpoint, "--views", "10", "--confusion")
        self.assertEqual((ten["images"], ten["views"]), (450, 10))
        self.assertEqual(sum(map(sum, ten["confusion"])), 450)
        self.assertEqual([sum(row) for row in ten["confusion"]], [45] * 10)
        right = sum(ten["confusion"][i][i] for i in range(10))
        self.assertAlmostEqual(ten["top1"], 100 * right / 450, delta=1e-9)
        # An ensemble of one network with itself is that network.
        twice = self.evaluate(self.checkpoint, self.checkpoint)
        self.assertAlmostEqual(twice["loss"], self.evaluate(self.checkpoint)["loss"], delta=1e-6)

    def test_predictions_name_classes_and_say_what_is_no_image(self):
        odd = os.path.join(SHARED, "data", "odd")
        process = run(
            "predict", "--checkpoint", self.checkpoint, os.path.join(odd, "baseline-420.JPEG"),
            os.path.join(odd, "text.JPEG"), "--top", "3", "--json",
        )  # fmt: skip
        self.assert_exit(process, 3)
        good, bad = json.loads(process.stdout)["predictions"]
        self.assertEqual(len(good["candidates"]), 3)
        self.assertRegex(good["candidates"][0]["class"], r"^n\d{8}$")
        total = sum(candidate["probability"] for candidate in good["candidates"])
        self.assertLessEqual(total, 1.0001)
        self.assertEqual(bad["candidates"], [])
        self.assertIn("fault", bad)


if __name__ == "__main__":
    unittest.main()
