#!/usr/bin/env python3
"""Runs test programs for tests/gpu and counts what they did, without trusting exit codes.

    results.py gtest SECTION PROGRAM [--filter GTEST_FILTER] [--wrap WORDS] [--only REGEX]
    results.py unittest SECTION NAME... [--only REGEX]
    results.py record SECTION NAME OUTCOME [DETAIL]
    results.py counts SECTION         prints the line of counts; 1 where something failed
    results.py summary                prints the failures and the line of all; 1 likewise

A result is a line of $CONVOY_RESULTS: section, name, outcome (passed, skipped or failed), seconds and
detail. All output goes into $CONVOY_LOG. A test program that crashes, or hangs for SILENCE_S, fails
that test and goes on behind it.
"""

import argparse
import json
import math
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
import unittest

SILENCE_S = float(os.environ.get("CONVOY_SILENCE_S", "150"))
MOST_CRASHES = 6
SHOWN_LINES = 12  # of a failure, on the terminal
OUTCOMES = ("passed", "skipped", "failed")


# --- Results --------------------------------------------------------------------------------------


def log(text):
    with open(os.environ["CONVOY_LOG"], "a", encoding="utf-8", errors="replace") as file:
        file.write(text if text.endswith("\n") else text + "\n")


def record(section, name, outcome, seconds=0.0, detail=""):
    line = {
        "section": section, "name": name, "outcome": outcome, "seconds": round(seconds, 3),
        "detail": detail.strip()[-4000:],
    }  # fmt: skip
    with open(os.environ["CONVOY_RESULTS"], "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    if outcome == "failed":
        shown = line["detail"].splitlines()[:SHOWN_LINES]
        print("\n".join([f"  failed: {name}", *("    " + text for text in shown)]), flush=True)


def results(section=None):
    if not os.path.exists(os.environ["CONVOY_RESULTS"]):
        return []
    with open(os.environ["CONVOY_RESULTS"], encoding="utf-8") as file:
        found = [json.loads(line) for line in file]
    return [line for line in found if section in (None, line["section"])]


def count(lines):
    return {name: sum(line["outcome"] == name for line in lines) for name in OUTCOMES}


def counts_line(lines):
    of = count(lines)
    ran = of["passed"] + of["failed"]
    return f"{ran} run, {of['skipped']} skipped, {of['failed']} failed"


def print_counts(section):
    lines = results(section)
    seconds = sum(line["seconds"] for line in lines)
    print(f"{section}: {counts_line(lines)} in {seconds:.0f} s", flush=True)
    reasons = {}
    for line in lines:
        if line["outcome"] == "skipped":
            reasons.setdefault(line["detail"].splitlines()[-1] if line["detail"] else "", []).append(line["name"])
    for reason, names in reasons.items():
        first = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
        print(f"  skipped: {first}: {reason}", flush=True)
    return 1 if count(lines)["failed"] else 0


def print_summary():
    lines = results()
    failed = [line for line in lines if line["outcome"] == "failed"]
    for line in failed:
        print(f"failed: {line['section']}: {line['name']}")
    of = count(lines)
    print(f"tests/gpu: {counts_line(lines)}")
    if of["passed"] + of["failed"] == 0:
        print("tests/gpu: there is a device, and nothing ran on it")
        return 1
    return 1 if failed else 0


# --- GoogleTest -----------------------------------------------------------------------------------


def list_tests(program, gtest_filter):
    found = subprocess.run(
        [program, "--gtest_list_tests", f"--gtest_filter={gtest_filter}"], capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    names, suite = [], ""
    for line in found.stdout.splitlines():
        word = line.split("#")[0].rstrip()
        if word.startswith("  "):
            names.append(suite + word.strip())
        elif word.endswith("."):
            suite = word
    if not names:
        log(found.stdout + found.stderr)
    return names, (found.stderr or found.stdout).strip()


def lines_of(process, deadline):
    """Lines as they come; None after SILENCE_S without one, and at the deadline, a monotonic time."""
    lines = queue.Queue()

    def read():
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=max(0, min(SILENCE_S, deadline - time.monotonic())))
        except queue.Empty:
            os.killpg(process.pid, signal.SIGKILL)
            yield None
            return
        if line is None:
            return
        yield line


class GtestRun:
    """One process: what it said of its tests, until it ended."""

    BEGIN = re.compile(r"\[ RUN      \] (\S+)")
    END = re.compile(r"\[ +(OK|SKIPPED|FAILED) +\] ([^\s,]+)(?:, where .*)? \((\d+) ms\)")

    def __init__(self, command, report, deadline=math.inf):
        self.running, self.began, self.output = None, 0.0, []
        self.finished, self.ended, self.hung, self.findings = set(), False, False, []
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", start_new_session=True,
        )  # fmt: skip
        self.late = False
        for line in lines_of(process, deadline):
            if line is None:
                self.hung = True
                self.late = time.monotonic() >= deadline
                break
            log(line)
            self.read(line, report)
        self.code = process.wait()

    def read(self, line, report):
        self.output.append(line)
        if "Global test environment tear-down" in line:
            self.ended = True
        summary = re.search(r"(ERROR SUMMARY: |RACECHECK SUMMARY: )(\d+) (.*)", line)
        if summary and summary[2] != "0":
            self.findings.append(line.strip("= \n"))
        if begin := self.BEGIN.match(line):
            self.running, self.began, self.output = begin[1], time.monotonic(), []
        elif (end := self.END.match(line)) and end[2] == self.running:
            outcome = {"OK": "passed", "SKIPPED": "skipped"}.get(end[1], "failed")
            report(self.running, outcome, time.monotonic() - self.began, "".join(self.output[:-1]))
            self.finished.add(self.running)
            self.running, self.output = None, []

    def how_it_ended(self):
        if self.late:
            return "its time was up"
        if self.hung:
            return f"said nothing for {SILENCE_S:.0f} s"
        if self.code < 0:
            return f"ended by {signal.Signals(-self.code).name}"
        return f"ended with {self.code}"


def run_gtest(section, program, gtest_filter, wrap, only, limit_s=math.inf):
    deadline = time.monotonic() + limit_s
    label = os.path.basename(program).removesuffix("_test")
    if wrap:
        label = f"{wrap[2]} {label}"
    names, errors = list_tests(program, gtest_filter)
    if not names:
        record(section, label, "failed", 0, f"lists no tests: {errors}")
        return
    pending = [name for name in names if re.search(only, f"{label}.{name}")]
    failed, ran = [], []

    def report(name, outcome, seconds, detail):
        if outcome == "failed":
            failed.append(name)
        if outcome != "skipped":
            ran.append(name)
        record(section, f"{label}.{name}", outcome, seconds, detail)

    for _ in range(MOST_CRASHES):
        if not pending or time.monotonic() >= deadline:
            break
        run = GtestRun([*wrap, program, "--gtest_filter=" + ":".join(pending)], report, deadline)
        for finding in run.findings:
            record(section, f"{label}: findings", "failed", 0, f"{finding}; the log has them")
        pending = [name for name in pending if name not in run.finished]
        if run.running:
            report(run.running, "failed", time.monotonic() - run.began,
                   "".join(run.output[-30:]) + run.how_it_ended())  # fmt: skip
            pending.remove(run.running)
        elif pending:
            record(section, label, "failed", 0, "".join(run.output[-30:]) + run.how_it_ended())
            break
        elif run.code != 0 and not failed and not run.findings:
            record(section, label, "failed", 0, "all tests passed, and then it " + run.how_it_ended())
    for name in pending:
        record(section, f"{label}.{name}", "failed", 0, "not reached: the program ended before it")
    if not ran and not pending and not only:
        record(section, label, "failed", 0, "there is a device, and every test was skipped")
    # A device that failed once may fail every test behind it: which ones fail alone?
    if 1 < len(failed) and not wrap and limit_s == math.inf:
        for name in failed[:8]:
            outcomes = []
            GtestRun([program, f"--gtest_filter={name}"], lambda *found: outcomes.append(found[1]))
            print(f"  alone, {name}: {outcomes[0] if outcomes else 'crashed'}", flush=True)


# --- unittest -------------------------------------------------------------------------------------


class Recorder(unittest.TestResult):
    def __init__(self, section):
        super().__init__()
        self.section = section

    def startTest(self, test):
        super().startTest(test)
        self.began = time.monotonic()

    def end(self, test, outcome, detail=""):
        name = ".".join(test.id().split(".")[-3:])
        seconds = time.monotonic() - getattr(self, "began", time.monotonic())
        log(f"{name}: {outcome} in {seconds:.1f} s\n{detail}")
        print(f"  {outcome}: {name} ({seconds:.0f} s)", flush=True)
        # The last lines say what was expected.
        record(self.section, name, outcome, seconds, "\n".join(detail.splitlines()[-40:]))

    def addSuccess(self, test):
        self.end(test, "passed")

    def addSkip(self, test, reason):
        self.end(test, "skipped", reason)

    def addFailure(self, test, error):
        self.end(test, "failed", "".join(traceback.format_exception(*error)))

    addError = addFailure


def tests_of(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from tests_of(item)
        else:
            yield item


def run_unittest(section, names, only):
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path.insert(0, os.path.join(os.path.dirname(here), "system"))
    suite = unittest.defaultTestLoader.loadTestsFromNames(names)
    chosen = [test for test in tests_of(suite) if re.search(only, test.id())]
    unittest.TestSuite(chosen).run(Recorder(section))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("gtest", "unittest", "record", "counts", "summary"))
    parser.add_argument("words", nargs="*")
    parser.add_argument("--filter", default="*")
    parser.add_argument("--wrap", default="")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    words = options.words
    if options.command == "gtest":
        run_gtest(words[0], words[1], options.filter, options.wrap.split(), options.only)
    elif options.command == "unittest":
        run_unittest(words[0], words[1:], options.only)
    elif options.command == "record":
        record(words[0], words[1], words[2], 0, " ".join(words[3:]))
    elif options.command == "counts":
        sys.exit(print_counts(words[0]))
    else:
        sys.exit(print_summary())


if __name__ == "__main__":
    main()
