"""What the steps of first.py share: programs with a time limit, the log, and what is computed."""

import json
import os
import signal
import subprocess
import time

import results

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NO_DEVICE = 8  # the exit code of a run that asks for a device where there is none


class Failed(Exception):
    """Of a step; the text is its line."""


class Sizes:
    """What is computed: on a device, and in a rehearsal."""

    def __init__(self, rehearse):
        self.batch, self.batches = (4, [2, 3]) if rehearse else (1024, [128, 256])
        self.rows = [2, 3] if rehearse else [128, 256, 512, 1024, 2048]
        self.input = 67 if rehearse else None
        self.small_batch = 4 if rehearse else 64
        self.warm_up, self.steps = (1, 1) if rehearse else (10, 30)
        self.small_steps = 3 if rehearse else 20
        self.model_words = ["--input", str(self.input)] if rehearse else []

    def __str__(self):
        return f"batch {self.batch}, input {self.input or 224}, {self.steps} steps"


class Run:
    """What the steps share: the programs, the log, and the time that is left."""

    def __init__(self, options):
        self.options, self.began = options, time.monotonic()
        self.build = os.environ["CONVOY_BUILD"]
        self.convoy = os.path.join(self.build, "launch", "convoy")
        self.rehearse = options.rehearse
        # The limits are a device's; a rehearsal on a slow machine may take longer.
        self.patience = 10 if options.rehearse else 1
        self.sizes, self.real_sizes = Sizes(options.rehearse), Sizes(False)
        self.kernels = os.path.join(options.out, "kernels")
        self.log_path = os.path.join(options.out, "first.log")
        self.tables = {}  # the bench of a step, for later ones

    def left(self):
        return self.patience * self.options.budget - (time.monotonic() - self.began)

    def log(self, text):
        with open(self.log_path, "a", encoding="utf-8", errors="replace") as file:
            file.write(text if text.endswith("\n") else text + "\n")

    def call(self, command, limit_s, env=None, accept=(0,)):
        """Standard output of a command that has so long, and is ended with all that it started."""
        limit_s = max(1, min(self.patience * limit_s, self.left()))
        command = [str(word) for word in command]
        self.log("$ " + " ".join(command))
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
            env=env, start_new_session=True,
        )  # fmt: skip
        try:
            output, errors = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, errors = process.communicate()
            self.log(output + errors)
            raise Failed(f"ended after {limit_s:.0f} s: {last_line(errors)}") from None
        self.log(output + errors)
        if process.returncode not in accept:
            raise Failed(f"exit code {process.returncode}: {last_line(errors or output)}")
        return output

    def program(self, name):
        """A test program: that of the device, or of the emulated one."""
        name = name.replace("_cuda", "_emulated") if self.rehearse else name
        for folder, _, files in os.walk(os.path.join(self.build, "tests")):
            if name in files:
                return os.path.join(folder, name)
        raise Failed(f"{name} is not there")

    def bench(self, limit_s, *words, model="alexnet2012", batch=None, dtype="bf16", steps=None):
        """One `convoy bench step --json`. In a rehearsal, its real sizes are parsed first."""

        def command(sizes):
            at_once = sizes.batch if batch is None else batch(sizes)
            input_words = sizes.model_words if model.startswith("alexnet") else []
            return [
                self.convoy, "bench", "step", "--backend", "cuda", "--json", "--model", model,
                *input_words, "--dtype", dtype, "--batch-size", at_once, "--warm-up", sizes.warm_up,
                "--steps", sizes.steps if steps is None else steps(sizes), "--kernel-cache",
                self.kernels, *words,
            ]  # fmt: skip

        if self.rehearse:
            env = dict(os.environ, CONVOY_EMULATED_DEVICES="0")
            self.call(command(self.real_sizes), limit_s, env, accept=(NO_DEVICE,))
        return json.loads(self.call(command(self.sizes), limit_s))

    def gtest(self, name, gtest_filter, limit_s, wrap=()):
        """Runs tests of a program; the line of counts. Single results are in results.jsonl."""
        before = len(results.results())
        limit_s = min(self.patience * limit_s, self.left())
        results.run_gtest("first", self.program(name), gtest_filter, list(wrap), "", limit_s)
        lines = results.results()[before:]
        counts = results.counts_line(lines)
        failed = [line["name"] for line in lines if line["outcome"] == "failed"]
        if failed:
            raise Failed(f"{counts}: {', '.join(failed[:4])}")
        return counts


def last_line(text):
    lines = [line for line in text.strip().splitlines() if line.strip()]
    errors = [line for line in lines if "error: " in line]
    return (errors or lines or ["nothing was said"])[-1][-300:]
