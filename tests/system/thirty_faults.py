#!/usr/bin/env python3
"""Provokes the thirty faults that a run must survive, and prints what came of each.

tests/system/thirty_faults.py [NUMBER...] [--json]

Prints a line for each provocation: the exit code that is expected and the one that is found, and the
line that reports the fault. The last line is "N of 30": a fault counts if each of its provocations
went as docs/run.md says, and if at least one was possible here. The exit code is 0 if none failed.
CONVOY_BUILD names the build (default: build/release).
"""

import argparse
import json
import os
import re
import sys
import unittest

os.environ["CONVOY_THIRTY_FAULTS"] = "1"
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

FILES = ["ranks", "disks", "devices", "data"]
FAULTS = [
    "a rank is killed", "TERM: preemption", "USR1, INT, HUP", "killed while a checkpoint is written",
    "the disk is full", "a torn checkpoint", "a flipped bit in a checkpoint",
    "a checkpoint of another model", "a folder that cannot be written",
    "another number of ranks, another batch", "NaN or infinity", "a loss that jumps", "a hung rank",
    "a slow rank", "settings or builds that differ", "versions of libraries that differ", "no device",
    "fewer devices than ranks", "a device out of memory", "a device that breaks",
    "the network is cut", "no data, an empty class", "torn JPEGs", "other files named .JPEG",
    "CMYK, grey, 12 bits, Exif", "tiny images", "decompression bombs", "damaged archives",
    "labels that do not fit", "disks that fail to read",
]  # fmt: skip


class Table(unittest.TestResult):
    """Prints the rows of each test when the test ends."""

    def __init__(self, as_json):
        super().__init__()
        self.as_json = as_json
        self.faults = {}  # number -> list of (row as a dict)

    def number(self, test):
        return int(re.match(r"test_(\d+)_", test._testMethodName)[1])

    def close(self, test, why="", failed=False):
        rows = [row._asdict() for row in getattr(test, "rows", [])]
        if why and not failed:
            rows.append({"did": test._testMethodName[8:], "line": f"skipped: {why}", "ok": None})
        elif failed and all(row["ok"] for row in rows):
            rows.append({"did": test._testMethodName[8:], "line": why, "ok": False})
        for row in rows:
            if row["line"].startswith("skipped: "):
                row["ok"] = None
            if not self.as_json:
                print(self.format(self.number(test), row), flush=True)
        self.faults.setdefault(self.number(test), []).extend(rows)

    @staticmethod
    def format(number, row):
        codes = f"{row['expected']:>3} {row['found']:>4}" if "found" in row else " " * 8
        said = {True: "ok", False: "FAIL", None: "-"}[row["ok"]]
        line = re.sub(r"^\d\d:\d\d:\d\d (?:convoy: )?", "", row["line"])
        return f"{number:>2} {said:<4} {codes}  {row['did']}" + (f"\n{'':18}{line[:160]}" if line else "")

    def addSuccess(self, test):
        self.close(test)

    def addSkip(self, test, reason):
        self.close(test, reason)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.close(test, str(err[1]).strip().splitlines()[0], failed=True)

    addError = addFailure

    def verdict(self, number):
        found = [row["ok"] for row in self.faults.get(number, [])]
        if False in found:
            return False
        return True if True in found else None


def chosen(numbers):
    suite = []
    for name in FILES:
        for case in unittest.defaultTestLoader.loadTestsFromName(f"thirty_faults_of_{name}_test"):
            suite += list(case)
    suite.sort(key=lambda test: test._testMethodName)
    return [test for test in suite if int(test._testMethodName[5:7]) in numbers]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("numbers", type=int, nargs="*", metavar="NUMBER", help="only these faults")
    parser.add_argument("--json", action="store_true", help="one JSON object in place of the table")
    options = parser.parse_args()
    numbers = options.numbers or list(range(1, len(FAULTS) + 1))
    table = Table(options.json)
    if not options.json:
        print("no      exit codes: expected, found; what was done; the line")
    unittest.TestSuite(chosen(numbers)).run(table)
    verdicts = {number: table.verdict(number) for number in numbers}
    held = sum(verdict is True for verdict in verdicts.values())
    if options.json:
        print(json.dumps({"held": held, "of": len(numbers), "faults": [
            {"number": number, "fault": FAULTS[number - 1], "held": verdicts[number],
             "provocations": table.faults.get(number, [])} for number in numbers]}))  # fmt: skip
    else:
        for verdict, title in ((False, "FAILED"), (None, "not possible here")):
            names = [f"{n} ({FAULTS[n - 1]})" for n in numbers if verdicts[n] is verdict]
            if names:
                print(f"{title}: {', '.join(names)}")
        print(f"{held} of {len(numbers)}")
    return 1 if False in verdicts.values() else 0


if __name__ == "__main__":
    sys.exit(main())
