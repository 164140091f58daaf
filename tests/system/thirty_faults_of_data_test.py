"""Faults 22 to 30 of the thirty: data sets, archives and images that are not what they should be."""

import io
import json
import os
import struct
import subprocess
import tarfile
import tempfile
import unittest

import flat_jpeg
from convoy import CONVOY, TIMEOUT_S, environment, run, write_image
from fault_case import HAS_COMPILER, HAS_STRACE, SANITIZED, SLOW_READS, FaultTest

# More than one of a few MB of pixels, far less than the bombs' claims.
MOST_RESIDENT_KB = 600_000
PIECES = """
#define _GNU_SOURCE
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>
static ssize_t Part(int file, void* to, size_t bytes, off_t at) {
  static int calls = 0;
  if (__sync_fetch_and_add(&calls, 1) % 3 == 0) { errno = EINTR; return -1; }
  return syscall(SYS_pread64, file, to, bytes > 7 ? bytes / 2 : bytes, at);
}
ssize_t pread(int file, void* to, size_t bytes, off_t at) { return Part(file, to, bytes, at); }
ssize_t pread64(int file, void* to, size_t bytes, off_t at) { return Part(file, to, bytes, at); }
"""


def png(seed, **size):
    with tempfile.NamedTemporaryFile() as file:
        write_image(file.name, seed, **size)
        return file.read()


class DataTest(FaultTest):
    def data(self, files=None, good=20, name="data"):
        """Class folders a and b with good images, and these files, {"class/name": bytes}."""
        everything = {f"{'ab'[i % 2]}/{i:02}.png": png(i) for i in range(good)}
        everything.update(files or {})
        for path, content in everything.items():
            os.makedirs(os.path.dirname(self.path(f"{name}/{path}")), exist_ok=True)
            with open(self.path(f"{name}/{path}"), "wb") as file:
                file.write(content)
        return self.path(name)

    def train_on(self, data, *arguments, name="run", **options):
        return self.train(name, "--data", data, "--index-folder", self.folder, "--epochs", "1",
                          "--resume", "none", *arguments, **options)  # fmt: skip

    def bad(self, name="run"):
        """The bad images of the run, {name: reason}."""
        path = os.path.join(self.path(name), "bad-samples-rank-0.jsonl")
        if not os.path.exists(path):
            return {}
        with open(path, encoding="utf-8") as file:
            return {line["name"]: line["reason"] for line in map(json.loads, file)}

    def saw_bad(self, did, files, reason):
        """All of the files are counted as bad, and the run goes on."""
        process = self.train_on(self.data(files), "--bad-limit", "50")
        self.saw(did, process, 0, f"bad sample .*({reason})")
        bad = self.bad()
        self.assertEqual(sorted(bad), sorted(files))
        for why in bad.values():
            self.assertRegex(why, reason)

    def colour(self, content):
        """The mean colour of an image file, as `data stats` finds it."""
        folder = f"colour-{len(self.rows)}"
        data = self.data({"a/x.jpg": content, "b/x.jpg": content}, good=0, name=folder)
        process = run("data", "stats", data, "--json", "--index-folder", self.folder, "--resize", "32",
                      "--output", self.path(folder + ".stats"))  # fmt: skip
        self.assert_exit(process, 0)
        return json.loads(process.stdout)["channel_mean"], process


class Sets(DataTest):
    def test_22_paths_that_are_not_there(self):
        for ranks in 0, 2:
            process = self.train_on("/nowhere/at/all", ranks=ranks)
            self.saw(f"no such path, {max(ranks, 1)} rank(s)", process, 3, "error: .*/nowhere/at/all")
            self.assertEqual(process.stderr.count("error: "), 1, process.stderr)
        os.makedirs(self.path("data/empty"))
        process = self.train_on(self.data(), ranks=2)
        self.saw("a class folder without images", process, 3, "error: .*empty")
        self.assertFalse(os.path.exists(self.path("run")))

    def test_29_labels_that_do_not_fit(self):
        process = self.train_on(self.data(), "--classes", "1")
        self.saw("more classes than --classes", process, 2, "2 classes.*--classes 2")
        for did, images, labels, line in (
            ("5 images, 4 labels", 5, bytes([0, 1, 0, 1]), r"5.*4|4.*5"),
            ("a label of 200", 4, bytes([0, 1, 200, 1]), "200"),
        ):
            os.makedirs(self.path(did), exist_ok=True)
            for kind, head, content in (
                ("images-idx3", struct.pack(">IIII", 0x803, images, 28, 28), bytes(784 * images)),
                ("labels-idx1", struct.pack(">II", 0x801, len(labels)), labels),
            ):
                for part in "train", "t10k":
                    with open(self.path(f"{did}/{part}-{kind}-ubyte"), "wb") as file:
                        file.write(head + content)
            self.saw(did, self.train_on(self.path(did) + ":train"), 3, f"error: .*({line})")
        flat = {f"{i}.png": png(i) for i in range(3)}
        lists = "id,label\n0,cat\n1,dog\n1,cat\n"
        self.data({**flat, "labels.csv": lists.encode()}, good=0, name="listed")
        process = self.train_on(self.path("listed"))
        self.saw("a list that names an image twice", process, 3, "error: .*again")
        self.assert_exit(self.train("other", "--data", self.data(), "--steps", "2"), 0)
        os.rename(self.path("data/b"), self.path("data/c"))
        process = self.train("other", "--data", self.path("data"), "--steps", "4")
        self.saw("a class has another name on a resume", process, 4, "classes' names differ")

    def test_28_archives(self):
        def archive(*members):
            content = io.BytesIO()
            with tarfile.open(fileobj=content, mode="w") as tar:
                for i in range(8):
                    member = tarfile.TarInfo(f"{'ab'[i % 2]}/{i}.png")
                    image = png(i)
                    member.size = len(image)
                    tar.addfile(member, io.BytesIO(image))
                for member in members:
                    tar.addfile(member)
            return content.getvalue()

        whole = archive()
        link = tarfile.TarInfo("a/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        size = bytearray(whole)
        size[124:136] = b"77777777777\0"
        size[148:156] = b"        "
        size[148:156] = b"%06o\0 " % sum(size[:512])
        first, second = bytearray(whole), bytearray(whole)
        first[3] ^= 1
        second[512 + 1024 + 3] ^= 1  # an image takes two blocks
        for did, content, line in (
            ("torn in an image", whole[:1200], r"header at byte \d+: .*archive"),
            ("torn after a member", whole[: len(whole) - 10240 - len(whole) % 10240 + 512], "byte"),
            ("a flipped bit in the first header", bytes(first), "first header is damaged"),
            ("a flipped bit in the second one", bytes(second), "header at byte 1536: wrong checksum"),
            ("../ in a name", archive(tarfile.TarInfo("../../etc/x.png")), r'"\.\." in the name'),
            ("an absolute name", archive(tarfile.TarInfo("/etc/x.png")), "absolute name"),
            ("a symbolic link", archive(link), "is a link"),
            ("a member larger than the archive", bytes(size), "but the archive ends at byte"),
        ):
            path = self.path("data.tar")
            with open(path, "wb") as file:
                file.write(content)
            self.saw(did, self.train_on(path), 3, f"error: .*data.tar.*({line})")


class Images(DataTest):
    def test_23_torn_images(self):
        whole = flat_jpeg.flat([90, 120, 140])
        files = {f"a/torn-{kept}.jpg": whole[:kept] for kept in (len(whole) // 2, len(whole) - 8)}
        files["b/garbage.jpg"] = whole[:-20] + bytes(range(200, 218))
        self.saw_bad("JPEGs cut in the middle and near the end, or with garbage there", files, "JPEG|data")
        many = {f"a/torn-{i}.jpg": whole[:100] for i in range(12)}
        process = self.train_on(self.data(many, good=10, name="many"))
        self.saw("12 of 22 are torn", process, 3, "bad samples in epoch 0, at most")

    def test_24_other_things_named_jpeg(self):
        self.saw_bad("a web page and a file of 0 bytes named .JPEG", {
            "a/page.JPEG": b"<!DOCTYPE html><html><body>404</body></html>",
            "b/empty.JPEG": b"",
            "b/a.JPEG": b"GIF89a" + bytes(40),
            "b/b.JPEG": b"RIFF\x20\0\0\0WEBPVP8 " + bytes(40),
        }, "HTML|web page|empty|GIF|WebP|bytes")  # fmt: skip
        process = self.train_on(self.data({"a/png.JPEG": png(7)}, name="png"), name="png-run")
        self.saw("a PNG named .JPEG", process, 0, "done")
        self.assertEqual(self.bad("png-run"), {})

    def test_25_colours_and_bits(self):
        cmyk = [255 - 200, 255 - 100, 255 - 50, 255]  # Adobe's are inverted: 255 is no ink
        for did, content, expected in (
            ("grey", flat_jpeg.flat([77]), [77, 77, 77]),
            ("YCbCr", flat_jpeg.flat([128, 128, 128]), [128, 128, 128]),
            ("CMYK with Adobe's marker", flat_jpeg.flat(cmyk, extra=flat_jpeg.adobe(0)), [55, 155, 205]),
            ("YCCK", flat_jpeg.flat([100, 128, 128, 255], extra=flat_jpeg.adobe(2)), [155, 155, 155]),
            ("Exif: turned by 90 degrees", flat_jpeg.flat([77], extra=flat_jpeg.exif(6)), [77] * 3),
        ):
            found, process = self.colour(content)
            self.saw(f"{did}: {', '.join(f'{value:.0f}' for value in found)}", process, 0)
            for a, b in zip(found, expected):
                self.assertAlmostEqual(a, b, delta=1.5, msg=did)
        self.saw_bad("12 bits", {"a/12.jpg": flat_jpeg.flat([2000], bits=12)}, "[Pp]recision 12|12 bits")

    def test_26_tiny_and_long_images(self):
        files = {
            f"a/{width}x{height}.png": png(1, width=width, height=height)
            for width, height in ((1, 1), (1, 5000), (5000, 1), (3, 2))
        }
        for geometry in "square2012", "rectangle", "squash", "random-resized":
            process = self.train_on(self.data(files), "--geometry", geometry)
            self.saw(f"1x1, 1x5000, 5000x1, 3x2: {geometry}", process, 0, "done")
            self.assertEqual(self.bad(), {})

    def test_27_bombs(self):
        files = {
            "a/pixels.jpg": flat_jpeg.bomb(30000, 30000),
            "b/scans.jpg": flat_jpeg.many_scans(10000),
        }
        data = self.data(files)
        with open(self.path("errors"), "w+", encoding="utf-8") as errors:
            with subprocess.Popen(
                [CONVOY, *self.words("run", "--data", data, "--epochs", "1")],
                stdout=subprocess.DEVNULL, stderr=errors, env=environment(),
            ) as process:  # fmt: skip
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            errors.seek(0)
            ended = subprocess.CompletedProcess([], process.returncode, "", errors.read())
        did = f"30000 x 30000 pixels, 10,000 scans: {usage.ru_maxrss // 1024} MB resident"
        self.saw(did, ended, 0, "pixels")
        self.assertEqual(sorted(self.bad()), sorted(files))
        self.assertIn("more than 100 scans", self.bad()["b/scans.jpg"])
        if not SANITIZED:
            self.assertLess(usage.ru_maxrss, MOST_RESIDENT_KB)


class Reads(DataTest):
    @unittest.skipUnless(HAS_STRACE, "strace is not installed, or may not trace")
    def test_30_reads_that_fail(self):
        data = self.data()
        words = self.words("run", "--data", data, "--index-folder", self.folder, "--epochs", "1")
        image = os.path.join(data, "a", "04.png")
        process = self.under_strace(["pread64:error=EIO:when=1..2"], words, [image])
        self.saw("two EIOs, then the bytes", process, 0, "done")
        self.assertEqual(self.bad(), {})
        process = self.under_strace(["pread64:error=EIO"], [*words, "--resume", "none"], [image])
        self.saw("EIO for one image, always", process, 0, "Input/output error")
        self.assertEqual(list(self.bad()), ["a/04.png"])

    @unittest.skipUnless(HAS_COMPILER, "there is no C compiler")
    def test_30_reads_that_are_short_or_interrupted(self):
        data = self.data()
        self.assert_exit(self.train_on(data, name="whole"), 0)
        process = subprocess.run(
            [CONVOY, *self.words("run", "--data", data, "--index-folder", self.folder, "--epochs", "1")],
            capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
            env=environment(**self.preload(PIECES)),
        )  # fmt: skip
        self.saw("every read is short, every third interrupted", process, 0, "done")
        self.assertEqual(self.bad(), {})
        self.assert_same_run("run", "whole")

    @unittest.skipUnless(HAS_COMPILER, "there is no C compiler")
    def test_30_slow_storage(self):
        process = self.train_on(self.data(), env=environment(**self.preload(SLOW_READS)))
        self.saw("every image takes 30 ms to read", process, 0, r"loader: .*input-bound")


if __name__ == "__main__":
    unittest.main()
