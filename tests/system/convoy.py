"""What the system tests share: running convoy as a user would, and reading what it leaves.

CONVOY_BACKEND is cuda if tests/gpu runs them: then all ranks share one device. If it is emulated, the
program loads the emulated device of tests/emulation in place of the CUDA module. CONVOY_SHARED is the
folder of data/ and reference/, CONVOY_TIMEOUT_S the longest time that a command may take.
"""

import json
import os
import random
import shutil
import struct
import subprocess
import tempfile
import unittest
import zlib

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("CONVOY_BUILD", os.path.join(SOURCE, "build", "release"))
CONVOY = os.path.join(BUILD, "launch", "convoy")
CONVOYRUN = os.path.join(SOURCE, "launch", "convoyrun")
BACKEND = os.environ.get("CONVOY_BACKEND", "cpu")
EMULATED_MODULE = os.path.join(BUILD, "tests", "emulation", "module")
SHARED = os.environ.get("CONVOY_SHARED", os.path.join(SOURCE, "..", "shared"))
PHOTOS = os.path.join(SHARED, "data", "learnable-mini.tar")
# The limit for one command: far more than any takes, so that a hang fails.
TIMEOUT_S = float(os.environ.get("CONVOY_TIMEOUT_S", "600"))
# The thread sanitizer cannot follow threads of OpenMP (tests/run).
ONE_THREAD = "CONVOY_ONE_THREAD" in os.environ
ON_BACKEND = {
    "cpu": [],
    "cuda": ["--backend", "cuda", "--share-device", "on", "--communicator", "mpi"],
    "emulated": ["--backend", "cuda", "--share-device", "on", "--kernel-cache", "none"],
}[BACKEND]


def environment(**extra):
    """Returns the caller's environment, with what mpirun needs as root on few cores. Tests of the CPU
    see no device."""
    if BACKEND == "cpu":
        extra = dict(extra, CUDA_VISIBLE_DEVICES="")
    if BACKEND == "emulated":
        folders = [EMULATED_MODULE, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        extra = {"LD_LIBRARY_PATH": ":".join(folders), "CONVOY_EMULATED_DEVICES": "1", **extra}
    return dict(
        os.environ,
        CONVOY=CONVOY,
        OMPI_ALLOW_RUN_AS_ROOT="1",
        OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
        OMPI_MCA_rmaps_base_oversubscribe="1",
        OMPI_MCA_hwloc_base_binding_policy="none",
        PRTE_MCA_hwloc_default_binding_policy="none",
        **extra,
    )


def run(*arguments, ranks=0, launcher="convoyrun", env=None, **options):
    """Runs convoy, on `ranks` ranks if it is not 0; returns the finished process. Keeps its output,
    unless `options` say where it goes."""
    return subprocess.run(
        command(*arguments, ranks=ranks, launcher=launcher),
        text=True,
        timeout=TIMEOUT_S,
        env=env or environment(),
        check=False,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )


def start(*arguments, ranks=0, env=None, **options):
    """Starts convoy and returns the running process, for tests that disturb it."""
    return subprocess.Popen(
        command(*arguments, ranks=ranks),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env or environment(),
        **options,
    )


def command(*arguments, ranks=0, launcher="convoyrun"):
    words = [str(argument) for argument in arguments]
    if ranks == 0:
        return [CONVOY, *words]
    if launcher == "mpirun":
        return ["mpirun", "-n", str(ranks), CONVOY, *words]
    return [CONVOYRUN, "-n", str(ranks), *words]


def metrics(folder, event="step"):
    """Returns the lines of a run's metrics.jsonl that have this event."""
    with open(os.path.join(folder, "metrics.jsonl"), encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    return [line for line in lines if line["event"] == event]


def losses(folder):
    return [line["loss"] for line in metrics(folder)]


def checkpoints(folder):
    path = os.path.join(folder, "checkpoints")
    if not os.path.isdir(path):
        return []
    return sorted(
        os.path.join(path, name)
        for name in os.listdir(path)
        if name.startswith("step-") and name.endswith(".safetensors")
    )


def tensors(path):
    """Returns the bytes of every tensor of a safetensors file, by name."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    return {
        name: data[slice(*entry["data_offsets"])]
        for name, entry in header.items()
        if name != "__metadata__"
    }


def write_image(path, seed, width=28, height=28, channels=1, pixels=None):
    """Writes a PNG of noise, or of `pixels`; grey or colour."""
    row, noise = width * channels, random.Random(seed)
    pixels = pixels or b"".join(noise.randbytes(row) for _ in range(height))
    rows = b"".join(b"\0" + pixels[row * y : row * (y + 1)] for y in range(height))

    def chunk(kind, content):
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header))
        file.write(chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b""))


class ConvoyTest(unittest.TestCase):
    """Has a folder for the test, and checks of exit codes with the output in the message."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="convoy-system-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def require_photos(self):
        if not os.path.exists(PHOTOS):
            self.skipTest(f"{PHOTOS} is not there")

    def assert_exit(self, process, code):
        self.assertEqual(
            process.returncode, code, f"output:\n{process.stdout}\nerrors:\n{process.stderr}"
        )

    def assert_error(self, process, code, *parts):
        """Checks the exit code, and that there is one line of error, which has every part."""
        self.assert_exit(process, code)
        lines = [line for line in process.stderr.splitlines() if "error: " in line]
        self.assertEqual(len(lines), 1, process.stderr)
        for part in parts:
            self.assertIn(part, lines[0])
