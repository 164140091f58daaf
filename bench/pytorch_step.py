#!/usr/bin/env python3
"""Training steps of Convoy and of PyTorch on the same processors or device, in turn, and their ratio.

    python3 bench/pytorch_step.py [--model alexnet2012|alexnet-torchvision] [--dtype fp32|bf16]
                                  [--batch-size 128] [--threads 2] [--rounds 5] [--no-compile]
    python3 bench/pytorch_step.py --device cuda [--dtype fp32|tf32|bf16] ...

Needs PyTorch (pip install torch). PyTorch runs the same network channels last, eager and through
torch.compile, bf16 by autocast, with SGD and momentum; Convoy runs `convoy bench step`. The machine's
speed drifts, so the sides take turns, round by round, and the medians count. Synthetic data.

On a CUDA device, PyTorch's batch stays on the device and its loss is not read, its steps are queued
without waiting and timed by events, its SGD is fused, and cuDNN searches for the fastest kernels.
Convoy copies every batch to the device and reads every loss, as in training.

Prints a line per side: images/s (median, lowest, highest), and Convoy's ratio to it, round by round.
Checks: the loss of the first PyTorch step and of Convoy's is that of a fresh network.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time

SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONVOY = os.path.join(SOURCE, "build", "release", "launch", "convoy")
STEPS = {"cpu": (2, 3), "cuda": (20, 50), "quick": (1, 2)}  # warming up, and timed, of a round


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="alexnet2012", choices=("alexnet2012", "alexnet-torchvision"))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--dtype", default="fp32", choices=("fp32", "tf32", "bf16"))
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--compile-mode", default="default", help="of torch.compile [%(default)s]")
    parser.add_argument("--convoy", default=CONVOY)
    parser.add_argument("--worker", choices=("eager", "compiled"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.input, options.quick = None, False
    if options.dtype == "tf32" and options.device == "cpu":
        parser.error("--dtype tf32: needs --device cuda")
    return options


# --- PyTorch, in a process of its own that steps when it is told to ----------------------------------


def two_tower_network(torch):
    nn, functional = torch.nn, torch.nn.functional

    def normalise(x):  # inside each tower; PyTorch divides alpha by the size
        parts = [functional.local_response_norm(part, 5, 1e-4, 0.75, 2.0) for part in x.chunk(2, 1)]
        return torch.cat(parts, 1)

    class TwoTowers(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 96, 11, 4)
            self.conv2 = nn.Conv2d(96, 256, 5, padding=2, groups=2)
            self.conv3 = nn.Conv2d(256, 384, 3, padding=1)
            self.conv4 = nn.Conv2d(384, 384, 3, padding=1, groups=2)
            self.conv5 = nn.Conv2d(384, 256, 3, padding=1, groups=2)
            self.fc6, self.fc7 = nn.Linear(9216, 4096), nn.Linear(4096, 4096)
            self.fc8 = nn.Linear(4096, 1000)

        def forward(self, x):
            relu, pool = functional.relu, lambda y: functional.max_pool2d(y, 3, 2)
            x = pool(normalise(relu(self.conv1(functional.pad(x, (0, 3, 0, 3))))))
            x = pool(normalise(relu(self.conv2(x))))
            x = relu(self.conv4(relu(self.conv3(x))))
            x = pool(relu(self.conv5(x))).flatten(1)
            x = functional.dropout(relu(self.fc6(x)), 0.5, self.training)
            x = functional.dropout(relu(self.fc7(x)), 0.5, self.training)
            return self.fc8(x)

    return TwoTowers()


def torchvision_network(torch):
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.AdaptiveAvgPool2d(6), nn.Flatten(), nn.Dropout(), nn.Linear(9216, 4096), nn.ReLU(),
        nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000),
    )  # fmt: skip


def work(options):
    """Reads a number of steps per line; answers with the seconds of each and the first loss."""
    import torch

    device = options.device
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = options.dtype == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = options.dtype == "tf32"
    make = two_tower_network if options.model == "alexnet2012" else torchvision_network
    model = make(torch).to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=1e-6, momentum=0.9, weight_decay=5e-4,
        fused=True if device == "cuda" else None,
    )  # fmt: skip
    forward = model
    if options.worker == "compiled":
        forward = torch.compile(model, mode=options.compile_mode)
    images = torch.randn(options.batch_size, 3, 224, 224)
    images = images.to(device, memory_format=torch.channels_last)
    labels = (torch.arange(options.batch_size) % 1000).to(device)

    def step():
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=options.dtype == "bf16"):
            loss = torch.nn.functional.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    first_loss = float(step())
    print(json.dumps({"torch": torch.__version__, "first_loss": first_loss}), flush=True)
    for line in sys.stdin:
        seconds = timed_on_device(torch, step, int(line)) if device == "cuda" else timed(step, int(line))
        memory = torch.cuda.max_memory_reserved() if device == "cuda" else 0
        print(json.dumps({"seconds": seconds, "device_memory_bytes": memory}), flush=True)


def timed(step, count):
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        float(step())
        seconds.append(time.perf_counter() - start)
    return seconds


def timed_on_device(torch, step, count):
    """From event to event, without a wait between the steps."""
    events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
    torch.cuda.synchronize()
    events[0].record()
    for event in events[1:]:
        step()
        event.record()
    torch.cuda.synchronize()
    return [begin.elapsed_time(end) / 1e3 for begin, end in zip(events, events[1:])]


class PyTorch:
    """Starts at once; ready() waits for the first step, so that several can start together."""

    def __init__(self, options, mode):
        command = [
            sys.executable, __file__, "--worker", mode, "--model", options.model, "--device",
            options.device, "--dtype", options.dtype, "--batch-size", str(options.batch_size),
            "--threads", str(options.threads), "--compile-mode", options.compile_mode,
        ]  # fmt: skip
        environment = dict(os.environ, OMP_NUM_THREADS=str(options.threads))
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.batch_size, self.mode = options.batch_size, mode
        self.warm_up, self.timed = STEPS[options.device]
        self.name, self.device_memory_bytes = f"PyTorch {mode}", 0

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended early; its errors are above")
        return json.loads(line)

    def ready(self):
        about = self.answer()
        self.name = f"PyTorch {about['torch'].split('+')[0]} {self.mode}"
        require_plausible(self.name, about["first_loss"])

    def images_per_s(self):
        self.process.stdin.write(f"{self.warm_up + self.timed}\n")
        self.process.stdin.flush()
        found = self.answer()
        self.device_memory_bytes = found["device_memory_bytes"]
        return self.batch_size / statistics.median(found["seconds"][self.warm_up :])

    def end(self):
        self.process.stdin.close()
        self.process.wait()


# --- Convoy -----------------------------------------------------------------------------------------


class Convoy:
    name = "Convoy"

    def __init__(self, options):
        warm_up, timed_steps = STEPS["quick" if options.quick else options.device]
        dtype = "fp32" if options.dtype == "tf32" else options.dtype
        self.command = [
            options.convoy, "bench", "step", "--json", "--model", options.model, "--dtype", dtype,
            "--batch-size", str(options.batch_size), "--threads", str(options.threads),
            "--warm-up", str(warm_up), "--steps", str(timed_steps), "--backend", options.device,
            "--tf32", "on" if options.dtype == "tf32" else "off",
            *(["--input", str(options.input)] if options.input else []),
        ]  # fmt: skip
        self.limits = []
        self.device_memory_bytes = 0

    def ready(self):
        pass

    def end(self):
        pass

    def images_per_s(self):
        run = subprocess.run(self.command, check=False, capture_output=True, text=True)
        if run.returncode != 0:
            raise RuntimeError(f"Convoy ended with {run.returncode}: {run.stderr.strip()}")
        found = json.loads(run.stdout)
        require_plausible(self.name, found["first_loss"])
        self.limits.append(found.get("share_of_limit", 0))
        self.device_memory_bytes = found.get("device_memory_bytes", 0)
        return found["images_per_s"]


def require_plausible(name, loss):
    chance = math.log(1000)
    if not 0.3 * chance < loss < 3 * chance + 1:
        raise RuntimeError(f"{name}: the first loss is {loss}, expected about {chance:.2f}")


def measure(options, sides):
    """Images per second of every side by its name, a figure a round; the sides take turns."""
    for side in sides:
        side.ready()
    rates = {side.name: [] for side in sides}
    for _ in range(options.rounds):
        for side in sides:
            rates[side.name].append(side.images_per_s())
    for side in sides:
        side.end()
    return rates


def main():
    options = arguments()
    if options.worker:
        work(options)
        return
    modes = ["eager"] if options.no_compile else ["eager", "compiled"]
    sides = [Convoy(options)] + [PyTorch(options, mode) for mode in modes]
    try:
        rates = measure(options, sides)
    except RuntimeError as error:
        sys.exit(str(error))
    where = "one CUDA device" if options.device == "cuda" else f"{options.threads} threads"
    print(
        f"{options.model} {options.dtype}, batch {options.batch_size}, {where}, synthetic, "
        f"{options.rounds} rounds of {STEPS[options.device][1]} timed steps each, in turn"
    )
    ours = rates["Convoy"]
    for side in sides:
        found = rates[side.name]
        line = f"{side.name:<26}{statistics.median(found):8.1f} images/s  ({min(found):.1f} to {max(found):.1f})"
        if side is not sides[0]:
            ratio = statistics.median(a / b for a, b in zip(ours, found))
            line += f"   Convoy is {ratio:.2f} times that"
        print(line)
    print(f"Convoy reaches {100 * statistics.median(sides[0].limits):.0f} % of its own primitives' rate")


if __name__ == "__main__":
    main()
