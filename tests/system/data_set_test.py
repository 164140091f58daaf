"""What lies at a path, as users meet it: a run inside the data, files left out, a part held out."""

import json
import os
import unittest

from convoy import ConvoyTest, metrics, run, write_image

ON_CPU = ["--backend", "cpu", "--threads", "1", "--workers", "1"]
SMALL = ["--model", "lenet5", "--mean", "none", "--batch-size", "4", *ON_CPU]


class DataSetTest(ConvoyTest):
    def setUp(self):
        super().setUp()
        for i in range(24):
            folder = self.path(f"flowers/{'daisy' if i % 2 else 'rose'}")
            os.makedirs(folder, exist_ok=True)
            write_image(os.path.join(folder, f"{i:03}.png"), i)

    def train(self, *arguments, ranks=0, **options):
        return run("train", *SMALL, *arguments, ranks=ranks, **options)

    def index(self, name):
        process = run("data", "index", self.path(name), "--json")
        self.assert_exit(process, 0)
        return json.loads(process.stdout), process.stderr

    def test_a_run_inside_the_data_folder_is_no_class(self):
        for steps in ("1", "2"):
            process = self.train("--data", ".", "--steps", steps, cwd=self.path("flowers"))
            self.assert_exit(process, 0)
        self.assertIn("left out the folder of a run, runs/default", process.stderr)
        found, _ = self.index("flowers")
        self.assertEqual((found["images"], found["classes"]), (24, ["daisy", "rose"]))

    def test_files_left_out_are_said(self):
        for name in ("rose/a.webp", "rose/b.webp", "daisy/c.bmp", "daisy/._d.png"):
            with open(self.path(f"flowers/{name}"), "wb") as file:
                file.write(b"x")
        line = "left out 3 files that are no JPEG or PNG: 2 .webp, 1 .bmp"
        process = self.train(
            "--data", self.path("flowers"), "--steps", "1", "--output-dir", self.path("run"),
            ranks=2,
        )  # fmt: skip
        self.assert_exit(process, 0)
        self.assertEqual(process.stderr.count(line), 1, process.stderr)
        found, text = self.index("flowers")
        self.assertEqual(found["left_out"], {".bmp": 1, ".webp": 2})
        self.assertIn(line, text)
        process = run("data", "verify", self.path("flowers"), "--json")
        self.assertEqual(json.loads(process.stdout)["left_out"], {".bmp": 1, ".webp": 2})

    def test_fifos_are_refused_at_once(self):
        os.mkfifo(self.path("fifo"))
        process = self.train("--data", self.path("fifo"), "--output-dir", self.path("run"))
        self.assert_error(process, 3, "a pipe")
        process = self.train(
            "--data", self.path("flowers"), "--steps", "1", "--output-dir", self.path("run")
        )
        self.assert_exit(process, 0)
        checkpoint = self.path("run/checkpoints/step-000000001.safetensors")
        process = run("predict", "--checkpoint", checkpoint, self.path("fifo"))
        self.assert_error(process, 3, "a pipe")

    def test_a_part_is_held_out_and_evaluated_alike(self):
        data = ["--data", self.path("flowers"), "--val-split", "0.25"]
        results = []
        for ranks in (0, 2):
            folder = self.path(f"run-{ranks}")
            process = self.train(*data, "--epochs", "1", "--output-dir", folder, ranks=ranks)
            self.assert_exit(process, 0)
            (evaluation,) = metrics(folder, "eval")
            (last,) = metrics(folder, "step")[-1:]
            best = os.path.join(folder, "checkpoints/best.safetensors")
            process = run("eval", best, *data, *ON_CPU, "--json")
            self.assert_exit(process, 0)
            again = json.loads(process.stdout)
            self.assertEqual(again["images"], evaluation["images"])
            self.assertAlmostEqual(again["loss"], evaluation["loss"], places=5)
            self.assertTrue(0 < again["images"] < 24)
            self.assertEqual(last["step"], -(-(24 - again["images"]) // 4))
            results.append(again["images"])
        self.assertEqual(results[0], results[1])
        with open(self.path("run-0/config.cfg"), encoding="utf-8") as file:
            self.assertIn("val-split = 0.25", file.read())
        process = self.train("--data", self.path("flowers"), "--val-split", "0.5", "--epochs", "2",
                             "--output-dir", self.path("run-0"))  # fmt: skip
        self.assert_error(process, 4, "training images: ")
        process = self.train(*data, "--val", self.path("flowers"), "--output-dir", self.path("x"))
        self.assert_error(process, 2, "--val-split", "--val")


if __name__ == "__main__":
    unittest.main()
