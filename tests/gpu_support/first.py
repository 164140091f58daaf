#!/usr/bin/env python3
"""The first minutes on a device: is it right, how fast is it, what should change first?

    first.py first  --out DIR [--budget 540]     nine minutes at most
    first.py second --out DIR [--budget 300]     what the first left, with the kernels it chose
    first.py first --rehearse --out DIR          the same script on the emulated device, small

tests/gpu calls it with the environment that it needs. Each step has a time limit and says one line;
one that fails never stops the next. The lines go into DIR/first.jsonl as they come, all output into
DIR/first.log. Exit code: 1 when a step failed.

In a rehearsal, the command lines of the real sizes are parsed too: they must get as far as looking
for a device, where there is none.
"""

import argparse
import json
import os
import re
import sys
import time

from device_run import Failed, Run
from first_steps import FIRST, SECOND


def perform(run, step):
    """Runs a step, whatever it does; says and keeps its line."""
    at_s, name = time.monotonic() - run.began, step.__name__
    data = {}
    if run.left() < 5:
        outcome, line = "left out", "the time is up"
    else:
        try:
            line, data = step(run)
            outcome = "skipped" if line.startswith("skipped: ") else "passed"
            line = line.removeprefix("skipped: ")
        except Failed as failure:
            outcome, line = "failed", str(failure)
        except Exception as error:  # pylint: disable=broad-except
            outcome, line = "failed", f"{type(error).__name__}: {error}"
    seconds = time.monotonic() - run.began - at_s
    with open(os.path.join(run.options.out, "first.jsonl"), "a", encoding="utf-8") as file:
        entry = {"step": name, "at_s": at_s, "seconds": seconds, "outcome": outcome, "line": line, "data": data}
        file.write(json.dumps(entry) + "\n")
    if run.rehearse and outcome == "passed":
        line = "emulated; " + re.sub(r"\d[\d.]* (images/s|ms|s|%)(?!\w)", r"- \1", line)
    print(f"{at_s:6.0f} s  {name:<15} {outcome:<9} {line}", flush=True)
    return outcome


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("first", "second"))
    parser.add_argument("--out", required=True)
    parser.add_argument("--budget", type=float, help="seconds in all")
    parser.add_argument("--rehearse", action="store_true", help="on the emulated device, small")
    options = parser.parse_args()
    if options.budget is None:
        options.budget = 540 if options.part == "first" else 300
    os.makedirs(options.out, exist_ok=True)
    run = Run(options)
    print(f"{options.part}: {run.sizes}; {options.budget:.0f} s at most", flush=True)
    if options.rehearse:
        print(f"a rehearsal: {run.real_sizes} are parsed, and not computed", flush=True)
    outcomes = [perform(run, step) for step in (FIRST if options.part == "first" else SECOND)]
    of = {outcome: outcomes.count(outcome) for outcome in ("passed", "skipped", "left out", "failed")}
    print(", ".join(f"{count} {outcome}" for outcome, count in of.items()), flush=True)
    sys.exit(1 if of["failed"] else 0)


if __name__ == "__main__":
    main()
