#!/usr/bin/env python3
"""Steps of two ranks with one thread each, as towers and as replicas, against one rank with two threads.

    python3 bench/two_ranks.py [--model alexnet2012] [--dtype fp32|bf16] [--batch-size 128] [--rounds 3]

The same global batch on the same two processors. The sides take turns, round by round, because the
machine's speed drifts; medians count. Prints images/s, the ratio to one rank, and where rank 0's step
goes, with the reduction overlapped and not. Synthetic data. `convoy bench step` checks the first loss.
"""

import argparse
import json
import os
import statistics
import subprocess

SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONVOY = os.path.join(SOURCE, "build", "release", "launch", "convoy")
CONVOYRUN = os.path.join(SOURCE, "launch", "convoyrun")
SIDES = {
    "one rank, two threads": [CONVOY, "--threads", "2"],
    "two towers": [CONVOYRUN, "--threads", "1", "--towers", "2"],
    "two replicas": [CONVOYRUN, "--threads", "1", "--replicas", "2"],
    "two replicas, overlap off": [CONVOYRUN, "--threads", "1", "--replicas", "2", "--overlap", "off"],
}
PARTS = ("forward_ms", "backward_ms", "exchange_wait_ms", "exposed_reduction_ms", "update_ms")


def measure(side, options):
    program, *words = SIDES[side]
    launch = [program] if program == CONVOY else [program, "-n", "2"]
    command = [
        *launch, "bench", "step", "--json", "--limits", "off", "--model", options.model, "--dtype",
        options.dtype, "--batch-size", str(options.batch_size), *words,
    ]  # fmt: skip
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="alexnet2012")
    parser.add_argument("--dtype", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    found = {side: [] for side in SIDES}
    for _ in range(options.rounds):
        for side in SIDES:
            found[side].append(measure(side, options))
    print(
        f"{options.model} {options.dtype}, global batch {options.batch_size}, synthetic, "
        f"{options.rounds} rounds, medians; parts in ms of rank 0"
    )
    print(f"{'':<28}{'images/s':>10}{'ratio':>8}  " + "".join(f"{part[:-3]:>19}" for part in PARTS))
    whole = found["one rank, two threads"]
    for side, results in found.items():
        rate = statistics.median(result["images_per_s"] for result in results)
        ratio = statistics.median(
            result["images_per_s"] / one["images_per_s"] for result, one in zip(results, whole)
        )
        parts = (statistics.median(result[part] for result in results) for part in PARTS)
        print(f"{side:<28}{rate:>10.1f}{ratio:>8.2f}  " + "".join(f"{part:>19.1f}" for part in parts))


if __name__ == "__main__":
    main()
