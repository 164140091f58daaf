"""What the tests of the thirty faults share: each check adds a row to the table of thirty_faults.py."""

import os
import re
import shutil
import signal
import subprocess
import time
from typing import NamedTuple

import convoy
from convoy import BUILD, CONVOY, TIMEOUT_S, ConvoyTest, checkpoints, environment

LENET = ["--model", "lenet5", "--mean", "none", "--std", "60", "--threads", "1", "--workers", "1",
         "--backend", "cpu"]  # fmt: skip
# Ten steps an epoch.
NOISE = ["--data", "synthetic:80x10", "--batch-size", "8", "--lr", "0.001", "--epochs", "100000"]
# Runs until something ends it, and prints so little that no pipe gets full.
ENDLESS = ["--data", "synthetic:800000x10", "--steps", "1000000", "--print-freq", "10000"]
# A read that gives the bytes of an image (not of a header) takes 30 ms, or does not end while the file
# $STOP is there.
SLOW_READS = """
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
static ssize_t Slow(int file, void* to, size_t bytes, off_t at) {
  const char* stop = getenv("STOP");
  if (bytes > 300) usleep(30000);
  while (stop && access(stop, F_OK) == 0) usleep(10000);
  return syscall(SYS_pread64, file, to, bytes, at);
}
ssize_t pread(int file, void* to, size_t bytes, off_t at) { return Slow(file, to, bytes, at); }
ssize_t pread64(int file, void* to, size_t bytes, off_t at) { return Slow(file, to, bytes, at); }
"""
# Starts a command in a mount namespace of its own, so that the machine itself is not changed.
MOUNTS = ["unshare", "--mount", "--propagation", "private"]
if os.geteuid() != 0:
    MOUNTS += ["--user", "--map-root-user"]


class Row(NamedTuple):
    """One provocation: what was done, the exit codes, and the line that reports the fault."""

    did: str
    expected: int
    found: int
    line: str
    ok: bool


def may(*words):
    """Returns whether the command can be run here."""
    try:
        return subprocess.run(words, capture_output=True, check=False, timeout=60).returncode == 0
    except OSError:
        return False


class FaultTest(ConvoyTest):
    """A test's name begins with its fault's number: test_07_..."""

    def setUp(self):
        super().setUp()
        self.rows = []

    def saw(self, did, process, code, line=""):
        """Adds a row: the process ended with the code, and a line of its errors matches the regex."""
        lines = process.stderr.splitlines()
        found = next((text for text in lines if re.search(line, text)), None) if line else ""
        ok = process.returncode == code and found is not None
        text = (lines or [""])[-1] if found is None else found
        self.rows.append(Row(did, code, process.returncode, text.strip(), ok))
        self.assert_exit(process, code)
        self.assertIsNotNone(found, f"no line matches {line!r}:\n{process.stderr}")

    def skip_part(self, did, why):
        self.rows.append(Row(did, 0, 0, f"skipped: {why}", True))

    def require(self, condition, why):
        if not condition:
            self.skipTest(why)

    def train(self, name, *arguments, ranks=0, **options):
        """Trains on noise into the folder; a later option wins."""
        return convoy.run(*self.words(name, *arguments), ranks=ranks, **options)

    def start(self, name, *arguments, ranks=0, **options):
        process = convoy.start(*self.words(name, *arguments), ranks=ranks, **options)
        self.addCleanup(self.end, process)
        return process

    @staticmethod
    def end(process):
        """Ends the process and its ranks, if they still run."""
        process.terminate()
        process.terminate()
        try:
            process.communicate(timeout=60)
        except (subprocess.TimeoutExpired, ValueError):  # ValueError: it has been read to its end
            process.kill()
            process.wait()

    def words(self, name, *arguments):
        return ["train", *LENET, *NOISE, "--output-dir", self.path(name), *arguments]

    def wait_for(self, name, lines, process):
        """Waits until the run's metrics have so many lines. Fails if the process ends before."""
        path = os.path.join(self.path(name), "metrics.jsonl")
        while process.poll() is None:
            if os.path.exists(path):
                with open(path, encoding="utf-8") as file:
                    if sum(1 for _ in file) >= lines:
                        return
            time.sleep(0.01)
        self.fail(f"ended before step {lines}: {process.communicate()[1]}")

    def end_of(self, process):
        """Waits for the end of `process`; returns its exit code and output as those of a finished one."""
        output, errors = process.communicate(timeout=TIMEOUT_S)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def ranks_of(self, name):
        """Returns the process ids of the ranks that write into the folder, by rank (0 without mpirun)."""
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
                with open(f"/proc/{pid}/environ", "rb") as file:
                    texts = file.read().split(b"\0")
                    variables = dict(text.split(b"=", 1) for text in texts if b"=" in text)
            except OSError:
                continue
            if words[0].endswith(b"/convoy") and self.path(name).encode() in words:
                rank = variables.get(b"OMPI_COMM_WORLD_RANK", variables.get(b"PMI_RANK", b"0"))
                found[int(rank)] = int(pid)
        return found

    def kill(self, pid, number=signal.SIGKILL):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass

    def newest(self, name):
        return checkpoints(self.path(name))[-1]

    def assert_same_run(self, name, whole):
        """Checks that the last weights and all losses are those of the run that nothing disturbed."""
        self.assertEqual(convoy.tensors(self.newest(name)), convoy.tensors(self.newest(whole)))
        self.assertEqual(convoy.losses(self.path(name)), convoy.losses(self.path(whole)))

    def under_strace(self, inject, words, paths=()):
        """Runs convoy with faults in system calls: those that touch the paths, or all if none is given."""
        command = ["strace", "-f", "-o", "/dev/null"]
        for path in paths:
            command += ["-P", path]
        for fault in inject:
            command += ["-e", f"inject={fault}"]
        process = subprocess.run(
            [*command, CONVOY, *words], capture_output=True, text=True, timeout=TIMEOUT_S,
            env=environment(), check=False,
        )  # fmt: skip
        # strace complains of paths that are not there yet.
        process.stderr = re.sub(r"(?m)^strace: .*\n", "", process.stderr)
        return process

    def in_mounts(self, script, words, **variables):
        """Runs a shell script that may mount; "$0" "$@" is convoy with the words. Skips the test if
        the script ends with 99, which says that it may not mount."""
        process = subprocess.run(
            [*MOUNTS, "bash", "-c", script, CONVOY, *words], capture_output=True, text=True,
            timeout=TIMEOUT_S, env=environment(**variables), check=False,
        )  # fmt: skip
        self.require(process.returncode != 99, process.stderr.strip())
        return process

    def preload(self, text):
        """Returns the environment for a program that shall call these C functions in place of the
        system's."""
        library, source = self.path("preload.so"), self.path("preload.c")
        with open(source, "w", encoding="utf-8") as file:
            file.write(text)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        return {"LD_PRELOAD": library}

    def on_rank(self, rank, **variables):
        """Returns the environment in which convoyrun gives these variables to one rank only."""
        script = self.path("rank.sh")
        with open(script, "w", encoding="utf-8") as file:
            file.write(
                "#!/bin/bash\n"
                f"if [[ ${{OMPI_COMM_WORLD_RANK:-$PMI_RANK}} == {rank} ]]; then\n"
                + "".join(f"  export {name}='{value}'\n" for name, value in variables.items())
                + f'fi\nexec -a "{CONVOY}" "{CONVOY}" "$@"\n'
            )
        os.chmod(script, 0o755)
        return dict(environment(), CONVOY=script)

    def gtest(self, did, program, pattern, expected=0):
        """Adds a row: the tests of a test program pass whose names match the pattern."""
        path = os.path.join(BUILD, "tests", program)
        if not os.path.exists(path):
            return self.skip_part(did, f"{program} is not built")
        process = subprocess.run(
            [path, f"--gtest_filter={pattern}", "--gtest_brief=1"], capture_output=True, text=True,
            timeout=TIMEOUT_S, env=environment(), check=False,
        )  # fmt: skip
        count = re.search(r"\[ +PASSED +\] (\d+) test", process.stdout)
        ok = process.returncode == 0 and count is not None and int(count[1]) > 0
        self.rows.append(Row(did, expected, process.returncode, f"{program} {pattern}", ok))
        self.assertTrue(ok, process.stdout + process.stderr)


# The sanitizers' libraries must come before all others, and make a process large and slow.
SANITIZED = "sanitize" in os.path.basename(BUILD)
HAS_STRACE = not SANITIZED and may("strace", "-o", "/dev/null", "true")
HAS_COMPILER = not SANITIZED and shutil.which("cc") is not None
HAS_MOUNTS = may(*MOUNTS, "mount", "-t", "tmpfs", "none", "/mnt")
