#!/usr/bin/env python3
"""Training steps of Convoy and of PyTorch on the same processors, in turn, and their ratio.

    python3 bench/pytorch_step.py [--model alexnet2012|alexnet-torchvision] [--dtype fp32|bf16]
                                  [--batch-size 128] [--threads 2] [--rounds 5] [--no-compile]

Needs PyTorch (pip install torch). PyTorch runs the same network channels last, eager and through
torch.compile, bf16 by autocast, with SGD and momentum; Convoy runs `convoy bench step`. The machine's
speed drifts, so the sides take turns, round by round, and the medians count. Synthetic data.

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
WARM_UP, TIMED = 2, 3  # steps of a round


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="alexnet2012", choices=("alexnet2012", "alexnet-torchvision"))
    parser.add_argument("--dtype", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--convoy", default=CONVOY)
    parser.add_argument("--worker", choices=("eager", "compiled"), help=argparse.SUPPRESS)
    return parser.parse_args()


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

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    make = two_tower_network if options.model == "alexnet2012" else torchvision_network
    model = make(torch).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9, weight_decay=5e-4)
    forward = torch.compile(model) if options.worker == "compiled" else model
    images = torch.randn(options.batch_size, 3, 224, 224).to(memory_format=torch.channels_last)
    labels = torch.arange(options.batch_size) % 1000

    def step():
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=options.dtype == "bf16"):
            loss = torch.nn.functional.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    first_loss = step()
    print(json.dumps({"torch": torch.__version__, "first_loss": first_loss}), flush=True)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
        print(json.dumps(seconds), flush=True)


class PyTorch:
    def __init__(self, options, mode):
        command = [
            sys.executable, __file__, "--worker", mode, "--model", options.model, "--dtype",
            options.dtype, "--batch-size", str(options.batch_size), "--threads", str(options.threads),
        ]  # fmt: skip
        environment = dict(os.environ, OMP_NUM_THREADS=str(options.threads))
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        about = json.loads(self.process.stdout.readline())
        self.batch_size = options.batch_size
        self.name = f"PyTorch {about['torch'].split('+')[0]} {mode}"
        require_plausible(self.name, about["first_loss"])

    def images_per_s(self):
        self.process.stdin.write(f"{WARM_UP + TIMED}\n")
        self.process.stdin.flush()
        seconds = json.loads(self.process.stdout.readline())[WARM_UP:]
        return self.batch_size / statistics.median(seconds)


# --- Convoy -----------------------------------------------------------------------------------------


class Convoy:
    name = "Convoy"

    def __init__(self, options):
        self.command = [
            options.convoy, "bench", "step", "--json", "--model", options.model, "--dtype",
            options.dtype, "--batch-size", str(options.batch_size), "--threads",
            str(options.threads), "--warm-up", str(WARM_UP), "--steps", str(TIMED),
        ]  # fmt: skip
        self.limits = []

    def images_per_s(self):
        found = json.loads(subprocess.run(self.command, check=True, capture_output=True).stdout)
        require_plausible(self.name, found["first_loss"])
        self.limits.append(found["share_of_limit"])
        return found["images_per_s"]


def require_plausible(name, loss):
    chance = math.log(1000)
    if not 0.3 * chance < loss < 3 * chance + 1:
        sys.exit(f"{name}: the first loss is {loss}, expected about {chance:.2f} of a fresh network")


def main():
    options = arguments()
    if options.worker:
        work(options)
        return
    modes = ["eager"] if options.no_compile else ["eager", "compiled"]
    sides = [Convoy(options)] + [PyTorch(options, mode) for mode in modes]
    rates = {side.name: [] for side in sides}
    for _ in range(options.rounds):
        for side in sides:
            rates[side.name].append(side.images_per_s())
    print(
        f"{options.model} {options.dtype}, batch {options.batch_size}, {options.threads} threads, "
        f"synthetic, {options.rounds} rounds of {TIMED} timed steps each, in turn"
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
