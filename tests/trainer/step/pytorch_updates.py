#!/usr/bin/env python3
"""Writes the figures of pytorch_updates_test.cc: what PyTorch's optimisers make of a small network.

    pytorch_updates.py           writes pytorch_updates.txt beside it
    pytorch_updates.py --check   compares that file with a fresh run; 77 if there is no PyTorch

Debian's python3-torch is enough. The network, its first weights, the images and the schedule are
formulas, the same here and in the test. Everything is computed in double precision.
"""

import math
import pathlib
import sys

try:
    import torch
except ImportError:
    print("pytorch_updates.py: skipped: PyTorch is not installed (python3-torch)", file=sys.stderr)
    sys.exit(77)

FIGURES = pathlib.Path(__file__).with_suffix(".txt")
STEPS, BATCH, INPUTS, HIDDEN, CLASSES = 50, 6, 12, 6, 4
NAMES = ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
SHAPES = [(HIDDEN, INPUTS), (HIDDEN,), (CLASSES, HIDDEN), (CLASSES,)]
FROZEN_STEPS = 10  # of fc1.bias, at the beginning

# Name, rate, decay of the weights (biases have none), norm to clip to or None.
CASES = {
    "sgd": (0.1, 0.01, None),
    "nesterov": (0.1, 0.01, None),
    "adam": (0.01, 0.01, None),
    "adamw": (0.01, 0.1, None),
    "sgd-clipped": (0.1, 0.01, 0.5),
}


def first_weights():
    parameters = []
    for index, shape in enumerate(SHAPES):
        count = math.prod(shape)
        values = [0.4 * math.sin(1.7 * k + 0.3 * index) for k in range(count)]
        parameters.append(torch.tensor(values, dtype=torch.float64).reshape(shape))
    return parameters


def image(position):
    pixels = [(position * 37 + i * 91 + position * i % 7 * 11) % 256 for i in range(INPUTS)]
    return [(pixel - 120) / 60 for pixel in pixels]


def label(position):
    return (position * position + position // 3) % CLASSES


def optimizer_of(case, groups, lr):
    if case.startswith("sgd"):
        return torch.optim.SGD(groups, lr=lr, momentum=0.9)
    if case == "nesterov":
        return torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True)
    kind = torch.optim.Adam if case == "adam" else torch.optim.AdamW
    return kind(groups, lr=lr, betas=(0.9, 0.999), eps=1e-8)


def run(case):
    lr, decay, clip = CASES[case]
    parameters = [p.clone().requires_grad_(True) for p in first_weights()]
    weights, biases = parameters[0::2], parameters[1::2]
    groups = [
        {"params": weights, "lr": lr, "weight_decay": decay},
        {"params": biases, "lr": 2 * lr, "weight_decay": 0.0},
    ]
    optimizer = optimizer_of(case, groups, lr)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[20, 35], gamma=0.5)
    for step in range(STEPS):
        positions = range(step * BATCH, (step + 1) * BATCH)
        x = torch.tensor([image(p) for p in positions], dtype=torch.float64)
        y = torch.tensor([label(p) for p in positions])
        hidden = torch.relu(x @ parameters[0].T + parameters[1])
        loss = torch.nn.functional.cross_entropy(hidden @ parameters[2].T + parameters[3], y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if step < FROZEN_STEPS:
            parameters[1].grad = None
        if clip:
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        schedule.step()
    return parameters


def figures():
    lines = [f"# Written by pytorch_updates.py: weights after {STEPS} steps of PyTorch's optimisers."]
    for case in CASES:
        for name, parameter in zip(NAMES, run(case)):
            values = " ".join(repr(v) for v in parameter.detach().reshape(-1).tolist())
            lines.append(f"{case} {name} {values}")
    return "\n".join(lines) + "\n"


def main():
    text = figures()
    if sys.argv[1:] == ["--check"]:
        for was, now in zip(FIGURES.read_text().splitlines()[1:], text.splitlines()[1:], strict=True):
            assert was.split()[:2] == now.split()[:2], (was[:40], now[:40])
            for a, b in zip(map(float, was.split()[2:]), map(float, now.split()[2:]), strict=True):
                assert abs(a - b) <= 1e-12, f"{was.split()[:2]}: {a} in the file, {b} now"
        print(f"{FIGURES.name} holds what PyTorch {torch.__version__} gives")
        return
    FIGURES.write_text(text)
    print(f"wrote {FIGURES.name} with PyTorch {torch.__version__}")


if __name__ == "__main__":
    main()
