"""Hosts that are cut off, slow, or suspended. Run beside hosts: tests/cluster/hosts run 2 python3 -m
unittest lost_host_test."""

import os
import signal
import subprocess
import sys
import tarfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "system"))

from convoy import (  # noqa: E402
    CONVOY,
    CONVOYRUN,
    ConvoyTest,
    checkpoints,
    environment,
    metrics,
    tensors,
    write_image,
)

HOSTS = os.path.join(HERE, "hosts")
# Of what must end by itself.
LIMIT_S = float(os.environ.get("CONVOY_TIMEOUT_S", "120"))


def on(host, *words, **variables):
    """Starts a command on a host."""
    return subprocess.Popen(
        [HOSTS, "on", host, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **environment(OMPI_MCA_plm_rsh_agent=f"{HOSTS} agent", OMP_WAIT_POLICY="passive"),
            **variables,
        },
    )


def processes(*names):
    """Processes of these programs, on any host."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            program = os.path.basename(os.readlink(f"/proc/{entry}/exe"))
        except OSError:
            continue
        if entry.isdigit() and program in names:
            found.append(int(entry))
    return found


class TwoHosts(ConvoyTest):
    def setUp(self):
        super().setUp()
        self.addCleanup(self.end_everything)

    def end_everything(self):
        for host in ("h1", "h2"):
            subprocess.run([HOSTS, "mend", host], check=False)
            subprocess.run([HOSTS, "open", host], check=False, stderr=subprocess.DEVNULL)
        for process in processes("convoy", "mpirun", "orterun", "orted"):
            os.kill(process, signal.SIGKILL)

    def train(self, name, *options, steps=100000, program=CONVOY, **variables):
        """Two replicas on two hosts, from noise."""
        return on(
            "h1", CONVOYRUN, "-n", "2", "-H", "h1:1,h2:1", "train", "--model", "lenet5",
            "--data", "synthetic:2000x10", "--mean", "none", "--std", "60", "--batch-size", "8",
            "--lr", "0.001", "--steps", str(steps), "--epochs", "1000", "--checkpoint-every", "50",
            "--threads", "1", "--workers", "1", "--backend", "cpu", "--output-dir",
            self.path(name), *options, CONVOY=program, **variables,
        )  # fmt: skip

    def wait_for_step(self, name, step, process):
        path = os.path.join(self.path(name), "metrics.jsonl")
        end = time.monotonic() + LIMIT_S
        while time.monotonic() < end:
            if process.poll() is not None:
                break
            if os.path.exists(path) and len(metrics(self.path(name))) >= step:
                return
            time.sleep(0.05)
        process.kill()
        self.fail(f"step {step} did not come: {process.communicate()[1]}")

    def end_of(self, process):
        """Exit code, standard error and seconds until the end."""
        started = time.monotonic()
        try:
            _, errors = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            self.fail(f"no end after {LIMIT_S} s: {process.communicate()[1]}")
        return process.returncode, errors, time.monotonic() - started

    def assert_same_weights(self, name, whole):
        self.assertEqual(
            tensors(checkpoints(self.path(name))[-1]), tensors(checkpoints(self.path(whole))[-1])
        )

    def test_a_host_that_is_cut_off_is_named_and_nothing_is_left(self):
        process = self.train("run")
        self.wait_for_step("run", 20, process)
        subprocess.run([HOSTS, "cut", "h2"], check=True)
        code, errors, seconds = self.end_of(process)
        print(f"ended {seconds:.1f} s after the cut", file=sys.stderr)
        self.assertEqual(code, 6, errors)
        self.assertRegex(errors, r"rank 1 \(h2\): step \d+.*silent")
        # Those on the other side end by themselves: the link is still down.
        end = time.monotonic() + LIMIT_S
        while processes("convoy", "orted", "mpirun", "orterun") and time.monotonic() < end:
            time.sleep(0.2)
        self.assertEqual(processes("convoy", "orted", "mpirun", "orterun"), [])

    def test_a_short_cut_changes_nothing(self):
        self.assertEqual(self.end_of(self.train("whole", steps=200))[0], 0)
        process = self.train("cut", steps=200)
        self.wait_for_step("cut", 20, process)
        subprocess.run([HOSTS, "cut", "h2"], check=True)
        time.sleep(float(os.environ.get("CONVOY_CUT_S", "4")))
        subprocess.run([HOSTS, "mend", "h2"], check=True)
        code, errors, _ = self.end_of(process)
        self.assertEqual(code, 0, errors)
        self.assert_same_weights("cut", "whole")

    def test_a_job_that_is_suspended_as_a_whole_goes_on(self):
        self.assertEqual(self.end_of(self.train("whole", steps=200))[0], 0)
        process = self.train("stopped", "--lost-after", "3", steps=200)
        self.wait_for_step("stopped", 20, process)
        ranks = processes("convoy")
        self.assertEqual(len(ranks), 2)
        for rank in ranks:
            os.kill(rank, signal.SIGSTOP)
        time.sleep(float(os.environ.get("CONVOY_STOP_S", "5")))
        for rank in ranks:
            os.kill(rank, signal.SIGCONT)
        code, errors, _ = self.end_of(process)
        self.assertEqual(code, 0, errors)
        self.assert_same_weights("stopped", "whole")

    def test_a_rank_that_is_stopped_alone_is_lost_on_the_other_host_too(self):
        process = self.train("run", "--lost-after", "3")
        self.wait_for_step("run", 20, process)
        # The rank on h2 is the one that mpirun has not started itself.
        victim = next(rank for rank in processes("convoy") if hostname_of(rank) == "h2")
        os.kill(victim, signal.SIGSTOP)
        code, errors, _ = self.end_of(process)
        self.assertEqual(code, 6, errors)
        self.assertRegex(errors, r"rank 1 \(h2\).*silent")

    def test_a_rank_that_writes_long_is_waited_for_and_named(self):
        """Rank 0, on h1, writes a checkpoint onto a slow disk."""
        process = self.train(
            "run", "--lost-after", "3", steps=5, program=self.slow_on("h1"),
            CONVOY_TEST_FSYNC_S=os.environ.get("CONVOY_WRITE_S", "12"),
        )  # fmt: skip
        code, errors, _ = self.end_of(process)
        self.assertEqual(code, 0, errors)
        self.assertRegex(errors, r"waiting for rank 0 \(h1\): writing a checkpoint, for \d+ s")

    def test_a_rank_that_works_long_is_waited_for_and_named(self):
        """h2 reads the headers of its archive so slowly that it takes several times the deadline.
        Each host makes an index of its own: it is kept in a folder that they do not share."""
        process = self.train(
            "run", "--data", self.archive(int(os.environ.get("CONVOY_IMAGES", "1500"))), "--deadline", "2", "--lost-after", "3",
            "--index-folder", "/dev/shm", steps=3, program=self.slow_on("h2"),
        )  # fmt: skip
        code, errors, _ = self.end_of(process)
        self.assertEqual(code, 0, errors)
        self.assertRegex(errors, r"waiting for rank 1 \(h2\): opening \S+, for \d+ s")

    def test_nobody_is_lost_behind_a_firewall(self):
        """No datagram leaves either host; their MPI, which uses TCP, works."""
        for host in ("h1", "h2"):
            subprocess.run([HOSTS, "firewall", host], check=True)
        process = self.train("run", "--lost-after", "3")
        for line in process.stderr:
            self.assertNotIn("error", line)
            if "no heartbeat arrives from h2" in line:
                break
        else:
            self.fail("nothing was said of the firewall")
        process.send_signal(signal.SIGTERM)
        code, errors, _ = self.end_of(process)
        self.assertEqual(code, 75, errors)

    def archive(self, images):
        """A tar of that many images in two classes."""
        image = self.path("image.png")
        write_image(image, 1)
        path = self.path("images.tar")
        with tarfile.open(path, "w") as tar:
            for i in range(images):
                tar.add(image, f"class{i % 2}/{i:05}.png")
        return path

    def slow_on(self, host):
        """The program with a slow disk on that host: 10 ms for every read of a header, and
        CONVOY_TEST_FSYNC_S for every checkpoint."""
        source, library, program = (self.path(name) for name in ("slow.c", "slow.so", "convoy"))
        with open(source, "w", encoding="utf-8") as file:
            file.write(SLOW_READS)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
        with open(program, "w", encoding="utf-8") as file:
            file.write(
                f'#!/bin/sh\n[ "$(hostname)" = {host} ] && export LD_PRELOAD={library}\n'
                f'exec {CONVOY} "$@"\n'
            )
        os.chmod(program, 0o755)
        return program


SLOW_READS = """
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
int fsync(int file) {
  char link[64], name[4096] = "";
  snprintf(link, sizeof(link), "/proc/self/fd/%d", file);
  readlink(link, name, sizeof(name) - 1);
  if (strstr(name, ".safetensors")) sleep(atoi(getenv("CONVOY_TEST_FSYNC_S")));
  return syscall(SYS_fsync, file);
}
static ssize_t Slow(int file, void* to, size_t bytes, off_t at) {
  if (bytes == 512) usleep(10000);
  return syscall(SYS_pread64, file, to, bytes, at);
}
ssize_t pread(int file, void* to, size_t bytes, off_t at) { return Slow(file, to, bytes, at); }
ssize_t pread64(int file, void* to, size_t bytes, off_t at) { return Slow(file, to, bytes, at); }
"""


def hostname_of(process):
    """The host that a process runs on, by its uts namespace."""
    return subprocess.run(
        ["nsenter", "--uts", "--target", str(process), "hostname"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip


if __name__ == "__main__":
    unittest.main()
