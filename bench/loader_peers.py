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
                                  mean is a level or more from the others'

A loader that is not installed is named with what installs it, and left out. `convoy bench loader`
does the colour of training besides. The machine's speed drifts, so the sides take turns, round by
round, and the medians count.

Prints a line per side: images/s (median, lowest, highest), how many times that Convoy reaches, and
the mean colour of 4096 crops. Checks: shape and type of the crops; their mean is within 2 levels of
Pillow's (without Pillow, of the first loader there is).
"""

import argparse
import itertools
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tarfile
import time

from peer_loaders import BATCH, CROP, LOADERS

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
            "--batch-size", str(BATCH), "--rounds", "1", "--limit", "off", "--batches",
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
