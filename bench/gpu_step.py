#!/usr/bin/env python3
"""Training of alexnet2012 on a CUDA device: Convoy beside PyTorch, its operations, and its loader.

    python3 bench/gpu_step.py --out DIR [--batches 1024,256,128] [--dtypes bf16,tf32,fp32]
                              [--rounds 2] [--compile-mode default|reduce-overhead|max-autotune]
                              [--parts steps,layers,loader] [--budget 520] [--shared DIR]

Every row of the table is a turn of `convoy bench step`, PyTorch eager and PyTorch compiled (see
pytorch_step.py for what each does), `--rounds` times; medians count. Then a table of the operations
of the bf16 step with 1024 images, and training fed by the loader from `--shared`/data. What does not
fit into `--budget` seconds is left out and named.

Writes DIR/bench.json after every row, and DIR/layers.txt. Prints the tables.
"""

import argparse
import copy
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time

import pytorch_step

SHARED = os.path.join(pytorch_step.SOURCE, "..", "shared")
LONGEST_ROW_S = 75  # of the budget; a row is not begun where less is left


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--batches", default="1024,256,128")
    parser.add_argument("--dtypes", default="bf16,tf32,fp32")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--compile-mode", default="default")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--parts", default="layers,loader,steps")
    parser.add_argument("--budget", type=float, default=520, metavar="SECONDS")
    parser.add_argument("--convoy", default=pytorch_step.CONVOY)
    parser.add_argument("--shared", default=SHARED)
    # For trying the script out where there is no device, or an emulated one.
    parser.add_argument("--input", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.model, options.threads = "alexnet2012", os.cpu_count()
    options.began = time.monotonic()
    return options


def left(options):
    return options.budget - (time.monotonic() - options.began)


class Report:
    """What was found so far, in a file."""

    def __init__(self, options):
        self.path = os.path.join(options.out, "bench.json")
        self.content = {"rows": [], "left_out": []}
        if os.path.exists(self.path):  # an earlier call did other rows
            with open(self.path, encoding="utf-8") as file:
                self.content.update(json.load(file))
        self.content.update(date=time.strftime("%F"), left_out=[])
        query = "name,driver_version,memory.total,clocks.max.sm,power.limit"
        try:
            found = subprocess.run(
                ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            self.content["device"] = found.stdout.strip()
        except OSError:
            pass

    def write(self):
        with open(self.path, "w", encoding="utf-8") as file:
            json.dump(self.content, file, indent=1)

    def leave_out(self, what, why):
        print(f"{what}: {why}", flush=True)
        self.content["left_out"].append(f"{what}: {why}")
        self.write()


# --- Steps ----------------------------------------------------------------------------------------


def sides_of(options, report):
    sides = [pytorch_step.Convoy(options)]
    if report.content.get("torch") is None:
        # A PyTorch without CUDA is none here.
        version = "import torch; print(torch.__version__ if torch.cuda.is_available() else '')"
        found = subprocess.run(
            [sys.executable, "-c", version], capture_output=True, text=True, check=False
        )
        report.content["torch"] = found.stdout.strip()
    if report.content["torch"]:
        modes = ["eager"] if options.no_compile else ["eager", "compiled"]
        sides += [pytorch_step.PyTorch(options, mode) for mode in modes]
    return sides


def measure_row(options, report, dtype, batch):
    options = copy.copy(options)
    options.dtype, options.batch_size = dtype, batch
    sides = sides_of(options, report)
    try:
        rates = pytorch_step.measure(options, sides)
    except RuntimeError as error:
        for side in sides[1:]:
            side.process.kill()
        report.leave_out(f"{dtype}, batch {batch}", str(error))
        return
    row = {"dtype": dtype, "batch": batch, "compile_mode": options.compile_mode}
    for side in sides:
        kind = side.name.split()[-1].lower()
        row[kind] = {
            "images_per_s": statistics.median(rates[side.name]),
            "rounds": rates[side.name],
            "device_memory_bytes": side.device_memory_bytes,
        }
    row["convoy"]["share_of_limit"] = statistics.median(sides[0].limits)
    keys = ("dtype", "batch", "compile_mode")
    others = [old for old in report.content["rows"] if any(old[key] != row[key] for key in keys)]
    report.content["rows"] = [*others, row]
    report.write()
    print_row(row)


def print_head():
    print(
        f"{'type':<6}{'batch':>6}{'Convoy':>12}{'eager':>12}{'compiled':>12}{'/ eager':>9}"
        f"{'/ compiled':>12}{'of limit':>10}{'memory GB: Convoy, eager, compiled':>38}"
    )


def print_row(row):
    rate = {side: row.get(side, {}).get("images_per_s") for side in ("convoy", "eager", "compiled")}
    line = f"{row['dtype']:<6}{row['batch']:>6}"
    for value in rate.values():
        line += f"{value:>12.0f}" if value else f"{'not run':>12}"
    for side, width in (("eager", 9), ("compiled", 12)):
        line += f"{rate['convoy'] / rate[side]:>{width}.2f}" if rate[side] else " " * width
    line += f"{100 * row['convoy']['share_of_limit']:>9.0f}%"
    memory = (row.get(side, {}).get("device_memory_bytes", 0) / 1e9 for side in rate)
    print(line + " " * 14 + ", ".join(f"{value:.1f}" for value in memory), flush=True)


def measure_steps(options, report):
    print("alexnet2012, one device, synthetic: images/s, medians of the rounds")
    print_head()
    wanted = [
        (dtype, int(batch)) for batch in options.batches.split(",") for dtype in options.dtypes.split(",")
    ]
    for dtype, batch in wanted:
        if left(options) < LONGEST_ROW_S:
            report.leave_out(f"{dtype}, batch {batch}", "left out: the time is up")
        else:
            measure_row(options, report, dtype, batch)
    if report.content["rows"]:
        print(f"\nall rows of {report.path}, PyTorch {report.content.get('torch') or 'for CUDA is not installed'}")
        print_head()
        order = {"fp32": 0, "tf32": 1, "bf16": 2}
        for row in sorted(report.content["rows"], key=lambda row: (row["batch"], order[row["dtype"]])):
            print_row(row)


# --- Operations -----------------------------------------------------------------------------------


def measure_layers(options, report):
    command = [
        options.convoy, "bench", "step", "--backend", options.device, "--model", "alexnet2012", "--dtype",
        "bf16", "--batch-size", "1024", "--warm-up", "10", "--steps", "30",
    ]  # fmt: skip
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        report.leave_out("operations", found.stderr.strip())
        return
    with open(os.path.join(options.out, "layers.txt"), "w", encoding="utf-8") as file:
        file.write(found.stdout)
    print(found.stdout, flush=True)


# --- The loader -----------------------------------------------------------------------------------


def repeat_photos(source, target, copies):
    """A tar of class tars with every photograph `copies` times: epochs that last."""
    with tarfile.open(source) as archive, tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as out:
        for outer in archive:
            inner = tarfile.open(fileobj=archive.extractfile(outer))
            photos = [(member.name, inner.extractfile(member).read()) for member in inner]
            packed = io.BytesIO()
            with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as again:
                for name, photo in photos:
                    stem, suffix = os.path.splitext(name)
                    for copy_number in range(copies):
                        member = tarfile.TarInfo(f"{stem}_{copy_number}{suffix}")
                        member.size = len(photo)
                        again.addfile(member, io.BytesIO(photo))
            member = tarfile.TarInfo(outer.name)
            member.size = packed.tell()
            packed.seek(0)
            out.addfile(member, packed)


def measure_loader(options, report):
    photos = os.path.join(options.shared, "data", "photos-mini.tar")
    if not os.path.exists(photos):
        report.leave_out("training fed by the loader", f"{photos} is not there")
        return
    batch, steps, dropped = 256, 200, 60
    with tempfile.TemporaryDirectory(prefix="convoy-bench-") as folder:
        archive, run = os.path.join(folder, "photos.tar"), os.path.join(folder, "run")
        repeat_photos(photos, archive, 128)
        command = [
            options.convoy, "train", "--backend", options.device, "--data", archive, "--model",
            "alexnet2012", "--dtype", "bf16", "--batch-size", str(batch), "--steps", str(steps),
            "--lr", "0.001", "--mean", "none", "--eval-every", "0", "--print-freq", "1", "--workers",
            str(max(1, options.threads - 1)), "--output-dir", run,
        ]  # fmt: skip
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        if found.returncode != 0:
            report.leave_out("training fed by the loader", found.stderr.strip()[-2000:])
            return
        with open(os.path.join(run, "metrics.jsonl"), encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
    of_steps = [line for line in lines if line["event"] == "step"][dropped:]
    row = {
        "batch": batch, "dtype": "bf16", "workers": max(1, options.threads - 1), "steps": len(of_steps),
        "images_per_s": statistics.median(line["images_per_s"] for line in of_steps),
        "wait_data_ms": statistics.median(line["wait_data_ms"] for line in of_steps),
        "loader": [line for line in lines if line["event"] == "loader"],
    }  # fmt: skip
    report.content["loader_fed"] = row
    report.write()
    print(
        f"fed by the loader (photos-mini.tar 128 times over, {row['workers']} workers, bf16, batch "
        f"{batch}): {row['images_per_s']:.0f} images/s, waiting {row['wait_data_ms']:.2f} ms a step "
        "for data (medians)",
        flush=True,
    )


def main():
    options = arguments()
    os.makedirs(options.out, exist_ok=True)
    report = Report(options)
    parts = {"layers": measure_layers, "loader": measure_loader, "steps": measure_steps}
    for part in options.parts.split(","):
        if part not in parts:
            sys.exit(f"--parts {part}: expected layers, loader or steps")
        parts[part](options, report)
    report.write()
    if report.content["left_out"]:
        print("\n".join(["left out:", *report.content["left_out"]]))
    # Rows that were asked for and failed, other than for want of time.
    sys.exit(1 if any("time is up" not in line and "not there" not in line
                      for line in report.content["left_out"]) else 0)  # fmt: skip


if __name__ == "__main__":
    main()
