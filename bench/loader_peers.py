#!/usr/bin/env python3
"""Images per second of other loaders from the same JPEG files, in turn, with Convoy beside them.

    python3 bench/loader_peers.py --data DATA [--threads 2] [--images 1500] [--rounds 5]
                                  [--in-memory 500] [--convoy build/release/launch/convoy]

DATA is a tar of class tars, or a flat tar (a WebDataset shard too), with :SPLIT for one folder of
it. Its files are in memory, copied until they are more than the processor's caches hold, so that no
side reads a disk. Every loader decodes, resizes the short side to 256 with antialiasing, cuts a
random 224 x 224 out, mirrors half of these, and fills uint8 batches of 128. Each is written as its
users write it, with threads inside one process:

    Pillow, OpenCV, torchvision   an image at a time, by a pool of threads
    DALI                          a pipeline for the CPU, fed from memory
    FFCV                          a .beton with the files' own bytes, in the page cache; it cannot
                                  resize before a crop, so it cuts the same share out first; its
                                  fast inverse DCT moves the mean by more than a level

A loader that is not installed is named with what installs it, and left out. `convoy bench loader`
does the colour of training besides. The machine's speed drifts, so the sides take turns, round by
round, and the medians count.

Prints a line per side: images/s (median, lowest, highest), how many times that Convoy reaches, and
the mean colour of 4096 crops. Checks: shape and type of the crops; their mean is within 2 levels of
Pillow's (without Pillow, of the first loader there is).
"""

import argparse
import importlib.metadata
import io
import itertools
import json
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

SHORT, CROP, BATCH = 256, 224, 128
CHECKED_BATCHES = 32
TOLERANCE = 2.0  # levels


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="a tar of class tars, or a flat tar")
    parser.add_argument("--threads", type=int, default=2, help="of each loader [%(default)s]")
    parser.add_argument("--images", type=int, default=1500, help="of a round [%(default)s]")
    parser.add_argument("--rounds", type=int, default=5, help="of every loader [%(default)s]")
    parser.add_argument("--in-memory", type=int, default=500, metavar="MB",
                        help="of files and copies of them [%(default)s MB]")  # fmt: skip
    parser.add_argument("--convoy", metavar="PATH", help="the convoy program, to measure as well")
    return parser.parse_args()


# --- The files ------------------------------------------------------------------------------------


def jpegs_of(archive, folder=""):
    for member in archive:
        name = member.name.removeprefix("./")
        if not name.startswith(folder):
            continue
        if name.lower().endswith((".jpg", ".jpeg")):
            yield archive.extractfile(member).read()
        elif name.endswith(".tar"):
            yield from jpegs_of(tarfile.open(fileobj=archive.extractfile(member)))


def read_buffers(data, megabytes):
    """The archive's first JPEGs, and copies of them where there are not as many bytes."""
    path, _, split = data.partition(":")
    folder = split + "/" if split else ""
    buffers, size = [], 0
    with tarfile.open(path) as archive:
        for jpeg in itertools.cycle(jpegs_of(archive, folder)):
            buffers.append(bytearray(jpeg))
            size += len(jpeg)
            if size >= megabytes * 1e6:
                return buffers
    sys.exit(f"{data}: no JPEG files in it")


# --- The loaders ----------------------------------------------------------------------------------
# load(first, count) makes batches out of images first, first + 1, ... and returns the last batch.


class Pooled:
    """Images one by one, by a pool of threads."""

    def __init__(self, buffers, threads):
        import numpy

        self.buffers = buffers
        self.batch = numpy.empty((BATCH, CROP, CROP, 3), numpy.uint8)
        self.pool = ThreadPoolExecutor(threads)
        self.random = random.Random(0)

    def load(self, first, count):
        for _ in self.pool.map(self.fill, range(first, first + count)):
            pass
        return self.batch

    def fill(self, index):
        self.batch[index % BATCH] = self.crop(self.buffers[index % len(self.buffers)])

    def place(self, width, height):
        """Left, top, and whether to mirror."""
        left, top = self.random.randint(0, width - CROP), self.random.randint(0, height - CROP)
        return left, top, self.random.random() < 0.5


def resized(width, height):
    short = min(width, height)
    return SHORT * width // short, SHORT * height // short


class Pillow(Pooled):
    install = "numpy pillow"

    def __init__(self, buffers, threads):
        import PIL.Image

        super().__init__(buffers, threads)
        self.version = PIL.__version__
        self.library = PIL.Image

    def crop(self, jpeg):
        image = self.library.open(io.BytesIO(jpeg)).convert("RGB")
        image = image.resize(resized(*image.size), self.library.Resampling.BILINEAR)
        left, top, mirror = self.place(*image.size)
        image = image.crop((left, top, left + CROP, top + CROP))
        return image.transpose(self.library.Transpose.FLIP_LEFT_RIGHT) if mirror else image


class OpenCV(Pooled):
    install = "opencv-python-headless"

    def __init__(self, buffers, threads):
        import cv2
        import numpy

        super().__init__([numpy.frombuffer(jpeg, numpy.uint8) for jpeg in buffers], threads)
        cv2.setNumThreads(1)
        self.version = cv2.__version__
        self.cv2 = cv2

    def crop(self, jpeg):
        cv2 = self.cv2
        image = cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
        size = resized(image.shape[1], image.shape[0])
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        left, top, mirror = self.place(*size)
        image = image[top : top + CROP, left : left + CROP]
        return cv2.flip(image, 1) if mirror else image


class Torchvision(Pooled):
    install = "torch torchvision"

    def __init__(self, buffers, threads):
        import torch
        import torchvision
        from torchvision.transforms.v2 import functional

        super().__init__([torch.frombuffer(jpeg, dtype=torch.uint8) for jpeg in buffers], threads)
        torch.set_num_threads(1)
        self.version = torchvision.__version__
        self.io, self.functional = torchvision.io, functional

    def crop(self, jpeg):
        image = self.io.decode_jpeg(jpeg, self.io.ImageReadMode.RGB)
        image = self.functional.resize(image, [SHORT], antialias=True)
        left, top, mirror = self.place(image.shape[2], image.shape[1])
        image = self.functional.crop(image, top, left, CROP, CROP)
        if mirror:
            image = self.functional.horizontal_flip(image)
        return image.permute(1, 2, 0)


class DALI:
    install = "nvidia-dali-cuda130"

    def __init__(self, buffers, threads):
        import numpy
        from nvidia import dali
        from nvidia.dali import fn, types

        self.version = dali.__version__
        self.buffers = [numpy.frombuffer(jpeg, numpy.uint8) for jpeg in buffers]

        @dali.pipeline_def(batch_size=BATCH, num_threads=threads, device_id=None, seed=0)
        def pipeline():
            jpegs = fn.external_source(self.next_files, ndim=1, dtype=types.UINT8, no_copy=True)
            images = fn.decoders.image(jpegs, device="cpu", output_type=types.RGB)
            images = fn.resize(images, resize_shorter=SHORT, interp_type=types.INTERP_LINEAR)
            images = fn.crop(
                images,
                crop=(CROP, CROP),
                crop_pos_x=fn.random.uniform(range=(0.0, 1.0)),
                crop_pos_y=fn.random.uniform(range=(0.0, 1.0)),
            )
            return fn.flip(images, horizontal=fn.random.coin_flip())

        self.pipeline = pipeline()
        self.pipeline.build()

    def next_files(self):
        first = next(self.firsts)
        return [self.buffers[i % len(self.buffers)] for i in range(first, first + BATCH)]

    def load(self, first, count):
        # The files of one call end, so that no batch is made ahead before or behind it.
        self.firsts = iter(range(first, first + count, BATCH))
        for _ in range(count // BATCH):
            (images,) = self.pipeline.run()
        batch = images.as_array()
        self.pipeline.reset()
        return batch


class FFCV:
    install = "ffcv (builds with the development files of OpenCV and libturbojpeg)"

    def __init__(self, buffers, threads):
        os.environ["TQDM_DISABLE"] = "1"  # the writer's progress bar
        import numpy
        import PIL.Image
        from ffcv.fields.rgb_image import IMAGE_MODES, RGBImageField, ResizedCropRGBImageDecoder
        from ffcv.loader import Loader
        from ffcv.transforms import RandomHorizontalFlip
        from ffcv.writer import DatasetWriter

        class JpegField(RGBImageField):
            """Takes a JPEG as it is: RGBImageField would compress the pixels again."""

            def encode(self, destination, jpeg, malloc):
                destination["mode"] = IMAGE_MODES["jpg"]
                with PIL.Image.open(io.BytesIO(jpeg)) as image:
                    destination["width"], destination["height"] = image.size
                destination["data_ptr"], storage = malloc(len(jpeg))
                storage[:] = numpy.frombuffer(jpeg, numpy.uint8)

        def random_square(height, width, scale, ratio):
            side = int(ratio * min(height, width))
            top = int(numpy.random.uniform(0, height - side + 1))
            left = int(numpy.random.uniform(0, width - side + 1))
            return top, left, side, side

        class CropDecoder(ResizedCropRGBImageDecoder):
            scale, ratio = None, CROP / SHORT
            get_crop_generator = property(lambda self: random_square)

        self.version = importlib.metadata.version("ffcv")
        self.folder = tempfile.TemporaryDirectory()
        file = os.path.join(self.folder.name, "photos.beton")
        multiprocessing.set_start_method("fork", force=True)  # the writer's: JpegField is local
        DatasetWriter(file, {"image": JpegField()}, num_workers=1).from_indexed_dataset(
            [(jpeg,) for jpeg in buffers]
        )
        self.count = len(buffers)
        self.numpy = numpy
        self.loader = Loader(
            file,
            batch_size=BATCH,
            num_workers=threads,
            os_cache=True,
            custom_fields={"image": JpegField},
            pipelines={"image": [CropDecoder((CROP, CROP)), RandomHorizontalFlip()]},
        )

    def load(self, first, count):
        # What Loader calls an epoch is the images of one call.
        indices = self.numpy.arange(first, first + count, dtype="uint64") % self.count
        self.loader.traversal_order.indices = self.loader.first_traversal_order = indices
        for (batch,) in self.loader:
            pass
        return batch


LOADERS = {
    "Pillow": Pillow,
    "OpenCV": OpenCV,
    "torchvision": Torchvision,
    "DALI": DALI,
    "FFCV": FFCV,
}


# --- Each in a process of its own, which loads when it is told to ---------------------------------


def work(name, options, connection):
    """Sends the version and the mean colour, or what is missing; then seconds for image counts."""
    buffers = read_buffers(options.data, options.in_memory)
    try:
        loader = LOADERS[name](buffers, options.threads)
    except ImportError as error:
        connection.send({"missing": str(error)})
        return
    means = []
    for first in range(0, CHECKED_BATCHES * BATCH, BATCH):
        batch = loader.load(first, BATCH)
        if batch.shape != (BATCH, CROP, CROP, 3) or batch.dtype != "uint8":
            sys.exit(f"{name}: batches of {batch.dtype} {batch.shape}")
        means.append(batch.mean((0, 1, 2)).tolist())
    connection.send({
        "version": loader.version,
        "buffers": len(buffers),
        "mean": [statistics.fmean(channel) for channel in zip(*means)],
    })  # fmt: skip
    first = CHECKED_BATCHES * BATCH
    while count := connection.recv():
        start = time.perf_counter()
        loader.load(first, count)
        connection.send(time.perf_counter() - start)
        first += count


class Peer:
    def __init__(self, name, options):
        context = multiprocessing.get_context("spawn")
        self.name = name
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(name, options, theirs))
        self.process.start()
        theirs.close()
        self.about = self.answer()

    def answer(self):
        try:
            return self.connection.recv()
        except EOFError:
            sys.exit(f"{self.name}: ended early")

    def images_per_s(self, count):
        self.connection.send(count)
        return count / self.answer()

    def end(self):
        self.connection.send(0)
        self.process.join()


class Convoy:
    name = "Convoy"
    about = {"version": "", "mean": ()}

    def __init__(self, options):
        self.command = [
            options.convoy, "bench", "loader", "--json", "--data", options.data, "-j",
            str(options.threads), "--in-memory", str(options.in_memory), "--geometry", "rectangle",
            "--batch-size", str(BATCH), "--batches",
        ]  # fmt: skip
        self.images_per_s(BATCH)

    def images_per_s(self, count):
        command = [*self.command, str(count // BATCH)]
        found = subprocess.run(command, capture_output=True, text=True)
        if found.returncode != 0:
            raise RuntimeError(found.stderr.strip())
        return json.loads(found.stdout)["images_per_s"]

    def end(self):
        pass


def means_agree(sides):
    peers = [side for side in sides if isinstance(side, Peer)]
    agree = True
    for side in peers[1:]:
        pairs = zip(side.about["mean"], peers[0].about["mean"])
        distance = max(abs(mine - theirs) for mine, theirs in pairs)
        if distance > TOLERANCE:
            print(f"{side.name}: the mean is {distance:.1f} levels from {peers[0].name}'s")
            agree = False
    return agree


def measure(options, sides):
    """Fills `sides` as they start. Returns the rates of each, and lines about those left out."""
    left_out = []
    count = -(-options.images // BATCH) * BATCH
    if options.convoy:
        try:
            sides.append(Convoy(options))
        except RuntimeError as error:
            left_out.append(f"Convoy: {error}")
    for name, loader in LOADERS.items():
        peer = Peer(name, options)
        if "missing" in peer.about:
            why = peer.about["missing"]
            left_out.append(f"{name}: not installed ({why}); pip install {loader.install}")
        else:
            sides.append(peer)
    rates = {side.name: [] for side in sides}
    for _ in range(options.rounds):
        for side in sides:
            rates[side.name].append(side.images_per_s(count))
    return count, rates, left_out


def main():
    options = arguments()
    sides = []
    try:
        count, rates, left_out = measure(options, sides)
    finally:
        for side in sides:
            side.end()
    files = max((side.about.get("buffers", 0) for side in sides), default=0)
    print(
        f"{os.path.basename(options.data)}, {files} files of {options.in_memory} MB in memory, "
        f"{options.threads} threads, {options.rounds} rounds of {count} images, in turn"
    )
    print(
        f"{'':<14}{'version':<14}{'images/s':>9}{'lowest':>9}{'highest':>9}{'Convoy':>9}"
        "   mean R, G, B"
    )
    for side in sides:
        found = rates[side.name]
        ratios = [ours / theirs for ours, theirs in zip(rates.get("Convoy", ()), found)]
        ratio = f"{statistics.median(ratios):.2f} x" if ratios else ""
        print(
            f"{side.name:<14}{side.about['version']:<14}{statistics.median(found):>9.0f}"
            f"{min(found):>9.0f}{max(found):>9.0f}{ratio:>9}   "
            + ", ".join(f"{channel:.1f}" for channel in side.about["mean"])
        )
    for line in left_out:
        print(line)
    if not means_agree(sides):
        sys.exit(1)


if __name__ == "__main__":
    main()
