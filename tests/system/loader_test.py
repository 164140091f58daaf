"""The loader as users run it: one stream whatever the form, the ranks and the threads; packing."""

import io
import json
import os
import tarfile
import time
import unittest

import convoy


def digests(data, *options, ranks=0):
    """The hashes of the first batches, {(epoch, batch): hash}."""
    result = convoy.run("bench", "loader", "--data", data, "--digest", "--json", "--batch-size", 12,
                        "--batches", 6, "--input", 64, "--resize", 72, "--colour-jitter",
                        "0.3,0.3,0.3", *options, ranks=ranks)
    if result.returncode != 0:
        raise AssertionError(result.stderr)
    lines = json.loads(result.stdout)["digests"]
    return {(line["epoch"], line["batch"]): line["digest"] for line in lines}


def read_members(shards):
    """The images of packed shards, {"class/name.JPEG": bytes}."""
    images = {}
    for name in sorted(os.listdir(shards)):
        if not name.endswith(".tar"):
            continue
        with tarfile.open(os.path.join(shards, name)) as tar:
            for member in tar:
                if not member.name.endswith(".cls"):
                    images[member.name] = tar.extractfile(member).read()
    return images


def add(tar, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def write_folder(images, path):
    for name, content in images.items():
        os.makedirs(os.path.dirname(os.path.join(path, name)), exist_ok=True)
        with open(os.path.join(path, name), "wb") as file:
            file.write(content)


def write_flat(images, path):
    with tarfile.open(path, "w") as tar:
        for name in reversed(sorted(images)):
            add(tar, name, images[name])


def write_nested(images, path):
    with tarfile.open(path, "w") as outer:
        for folder in reversed(sorted({name.split("/")[0] for name in images})):
            content = io.BytesIO()
            with tarfile.open(fileobj=content, mode="w") as inner:
                for name in sorted(images):
                    if name.startswith(folder + "/"):
                        add(inner, name.split("/")[1], images[name])
            add(outer, folder + ".tar", content.getvalue())


class LoaderTest(convoy.ConvoyTest):
    def setUp(self):
        super().setUp()
        self.shards = self.path("shards")
        self.succeed("data", "pack", "synthetic:40x5", "--short-side", 90, "--quality", 80,
                     "--shard-images", 9, "--output", self.shards)

    def succeed(self, *arguments, ranks=0):
        result = convoy.run(*arguments, ranks=ranks)
        self.assert_exit(result, 0)
        return result.stdout

    def test_threads_ranks_towers_and_the_place_to_start_change_nothing(self):
        expected = digests(self.shards, "-j", 1)
        self.assertEqual(sorted(expected), [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)])
        self.assertEqual(len(set(expected.values())), 6)
        self.assertEqual(digests(self.shards, "-j", 8), expected)
        self.assertEqual(digests(self.shards, "-j", 2, ranks=2), expected)
        self.assertEqual(digests(self.shards, "-j", 1, ranks=4), expected)
        self.assertEqual(digests(self.shards, "--towers", 2, ranks=4), expected)
        resumed = digests(self.shards, "--first-batch", 3, "--batches", 2, "-j", 2)
        self.assertEqual(resumed, {key: expected[key] for key in [(0, 3), (1, 0)]})
        self.assertNotEqual(digests(self.shards, "--seed", 1), expected)

    def test_the_form_of_the_archive_changes_nothing(self):
        images = read_members(self.shards)
        self.assertEqual(len(images), 40)
        expected = digests(self.shards)
        write_folder(images, self.path("folder"))
        write_flat(images, self.path("flat.tar"))
        write_nested(images, self.path("nested.tar"))
        self.succeed("data", "pack", self.path("folder"), "--lossless", "--output",
                     self.path("lossless"))
        self.assertIn("every image is that of its source",
                      self.succeed("data", "verify", self.path("lossless"), "--against",
                                   self.path("folder")))
        self.succeed("data", "pack", self.path("flat.tar"), "--form", "nested", "--output",
                     self.path("packed.tar"))
        for form in ["folder", "flat.tar", "nested.tar", "lossless", "packed.tar"]:
            self.assertEqual(digests(self.path(form)), expected, form)

    def test_several_ranks_pack_the_bytes_of_one(self):
        other = self.path("other")
        self.succeed("data", "pack", "synthetic:40x5", "--short-side", 90, "--quality", 80,
                     "--shard-images", 9, "--output", other, ranks=3)
        for name in ["shard-000000.tar", "shard-000004.tar", "classes.txt", "shards.cfg"]:
            with open(os.path.join(self.shards, name), "rb") as one:
                with open(os.path.join(other, name), "rb") as three:
                    self.assertEqual(one.read(), three.read(), name)

    def test_packing_that_was_killed_goes_on(self):
        source, folder = self.path("source"), self.path("killed")
        self.succeed("data", "pack", "synthetic:600x5", "--short-side", 200, "--output", source)
        command = ["data", "pack", source, "--short-side", 300, "--shard-images", 20,
                   "--output", folder]
        process = convoy.start(*command)
        while not os.path.exists(os.path.join(folder, "shard-000001.tar")):
            self.assertIsNone(process.poll())
            time.sleep(0.01)
        process.kill()
        process.communicate()
        unfinished = convoy.run("data", "verify", folder)
        self.assertEqual(unfinished.returncode, 3, unfinished.stderr)
        self.assertIn("600 expected", unfinished.stderr)
        self.assertIn("of them there before", self.succeed(*command))
        self.assertIn("every image is that of its source",
                      self.succeed("data", "verify", folder, "--against", source))

    def test_what_cannot_be_packed_is_said_in_one_line(self):
        pack = ["data", "pack", "synthetic:40x5"]
        bench = ["bench", "loader", "--data", self.shards]
        for arguments, word in [
            ([*pack, "--output", self.shards], "shards.cfg"),
            (pack, "--output is missing"),
            ([*pack, "--output", self.folder], "not empty"),
            ([*pack, "--output", self.path("x"), "--count", 41], "has 40 images"),
            ([*bench, "--colour-jitter", "1,2"], "three numbers"),
        ]:
            self.assert_error(convoy.run(*arguments), 2, word)
        self.assert_error(convoy.run("data", "verify", self.shards, "--against", "synthetic:39x5"),
                          3, "40 images, in the source 39")
        official = self.path("ILSVRC2012_img_val.tar")
        with open(official, "wb") as file:
            file.write(bytes(1024))
        self.assert_error(convoy.run("data", "index", official), 3, "1,024 bytes", "6,744,924,160")

    def test_a_pack_never_replaces_its_source(self):
        images = read_members(self.shards)
        source, folder = self.path("source.tar"), self.path("source")
        write_flat(images, source)
        write_folder(images, folder)
        os.link(source, self.path("hard.tar"))
        os.symlink("source.tar", self.path("link.tar"))
        with open(source, "rb") as file:
            before = file.read()
        entries = sorted(os.listdir(self.folder))
        for data, form, output in [
            (source, "nested", source),
            (source, "nested", self.path("./source.tar")),
            (source, "nested", self.path("link.tar")),
            (source, "nested", self.path("hard.tar")),
            (self.path("link.tar"), "nested", source),
            (folder, "shards", folder),
            (folder, "shards", os.path.join(folder, "packed")),
            (folder, "nested", os.path.join(folder, "packed.tar")),
            (self.shards, "shards", self.shards),
        ]:
            process = convoy.run("data", "pack", data, "--form", form, "--short-side", 16,
                                 "--index-folder", self.path("index"), "--output", output)
            self.assert_error(process, 2, output)
        with open(source, "rb") as file:
            self.assertEqual(file.read(), before)
        self.assertEqual(sorted(os.listdir(folder)), sorted({name.split("/")[0] for name in images}))
        self.assertEqual(sorted(set(os.listdir(self.folder)) - {"index"}), entries)

    def test_verify_counts_images_that_are_smaller_than_the_crop(self):
        small = ["data", "verify", self.shards, "--json"]
        self.assertEqual(json.loads(self.succeed(*small))["small"], 40)
        self.assertEqual(json.loads(self.succeed(*small, "--input", 91))["small"], 40)
        self.assertEqual(json.loads(self.succeed(*small, "--input", 90))["small"], 0)

    def test_a_run_enters_bad_images_with_their_step_once(self):
        images = read_members(self.shards)
        bad = sorted(images)[7]
        images[bad] = images[bad][:200]
        write_folder(images, self.path("data"))
        run = self.path("run")
        command = ["train", "--data", self.path("data"), "--model", "lenet5", "--mean", "none",
                   "--batch-size", 10, "--epochs", 2, "--checkpoint-every", 1, "--keep", 9, "--seed", 3,
                   "--output-dir", run]

        def ledger():
            lines = []
            for rank in [0, 1]:
                path = os.path.join(run, f"bad-samples-rank-{rank}.jsonl")
                if os.path.exists(path):
                    with open(path, encoding="utf-8") as file:
                        lines += [json.loads(line) for line in file]
            return sorted(lines, key=lambda line: line["step"])

        self.succeed(*command, ranks=2)
        whole = ledger()
        self.assertEqual([line["epoch"] for line in whole], [0, 1])
        for line in whole:
            self.assertEqual(line["name"], bad)
            self.assertIn(os.path.basename(bad), line["location"])
            self.assertIn(line["replaced_by"], images)
            self.assertEqual(line["epoch"] * 4 + line["position"] // 10 + 1, line["step"])
        # On one rank, and on one rank from the middle: the same substitutes, each said once.
        self.succeed(*command, "--resume", "none")
        self.assertEqual(ledger(), whole)
        middle = convoy.checkpoints(run)[0]
        self.assertIn("step-0", os.path.basename(middle))
        self.succeed(*command, "--resume", middle)
        self.assertEqual(ledger(), whole)
        events = convoy.metrics(run, "loader")
        self.assertEqual([line["epoch"] for line in events], [0, 1])
        self.assertGreater(events[0]["images_per_s"], 0)


if __name__ == "__main__":
    unittest.main()
