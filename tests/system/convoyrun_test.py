"""convoyrun: mpirun's options in every spelling, starts that fail, standard streams that are closed
or full, and what of mpirun's own words a user sees."""

import os
import pty
import subprocess
import unittest

from convoy import CONVOYRUN, ConvoyTest, TIMEOUT_S, environment

SMALL = [
    "--model", "lenet5", "--batch-size", "2", "--mean", "none", "--backend", "cpu", "--threads",
    "1", "-j", "1", "--data", "synthetic:4x2", "--steps", "1",
]  # fmt: skip


# Open MPI 4, which says most. The others take options of their own.
VERSION = subprocess.run(
    [os.environ.get("MPIRUN", "mpirun"), "--version"], capture_output=True, text=True, check=False
).stdout
IS_OPEN_MPI = "Open MPI" in VERSION
IS_OPEN_MPI_4 = "(Open MPI) 4" in VERSION


def launch(*words, env=None, **options):
    return subprocess.run(
        [CONVOYRUN, *words], text=True, timeout=TIMEOUT_S, env=env or environment(), check=False,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )  # fmt: skip


class ConvoyrunTest(ConvoyTest):
    def train(self, *options, more=(), **arguments):
        return launch(
            *options, "train", *SMALL, "--output-dir", self.path("run"), "--resume", "none", *more,
            **arguments,
        )  # fmt: skip

    def assert_ranks(self, process, ranks):
        self.assert_exit(process, 0)
        self.assertRegex(process.stderr, rf", {ranks} ranks? on ")


class Options(ConvoyrunTest):
    def test_one_dash_two_dashes_and_equals_signs_are_the_same(self):
        with open(self.path("hosts"), "w", encoding="utf-8") as file:
            file.write("localhost slots=3\n" if IS_OPEN_MPI else "localhost:3\n")
        of_mpich = (
            (2, "-bind-to none -map-by slot -x PATH -x A=b -hosts localhost -ppn 2 -np 2"),
            (2, "-genv A b --bind-to none -H localhost:2 -n=2"),
            (3, f"-f {self.path('hosts')} -n 3"),
        )
        of_open_mpi = (
            (2, "-bind-to none -map-by slot -x PATH -mca pml ob1 -mca btl ^openib -H localhost:2 "
                "-np 2"),
            (2, "--bind-to none --map-by slot --mca pml ob1 --host localhost:2 --np 2"),
            (2, "-np=2 --bind-to=none --map-by=slot --tag-output"),
            (3, f"-hostfile {self.path('hosts')}"),
            (2, "-H localhost:2"),
            (2, "-n 2 --"),
        )  # fmt: skip
        for ranks, options in of_open_mpi if IS_OPEN_MPI else of_mpich:
            with self.subTest(options):
                self.assert_ranks(self.train(*options.split()), ranks)

    def test_a_value_that_is_named_as_a_subcommand_stays_a_value(self):
        two = ["-mca", "data", "bench"] if IS_OPEN_MPI else ["-genv", "data", "bench"]
        for words in (["-x", "train"], ["-x=eval"], two):
            with self.subTest(words):
                # Open MPI warns of a variable that is not set.
                self.assert_ranks(self.train("-n", "2", *words), 2)

    def test_a_wrong_command_is_one_line_and_code_2(self):
        for words, part in (
            ([], "there is no subcommand"),
            (["-n", "2"], "there is no subcommand"),
            (["-n", "2", "-mca", "pml", "train"], "there is no subcommand"),
            (["-n", "2", "trian"], "'trian' is no subcommand"),
            (["train"], "how many ranks"),
            (["-n"], "-n needs a number"),
            (["-n", "0", "train"], "-n 0: expected a number"),
            (["-np=x", "train"], "x: expected a number"),
            (["-n", "2", "-H"], "-H needs a value"),
            (["-n", "2", "--mca", "pml"], "--mca needs a name and a value"),
            (["-n", "2", "--hostfile", self.path("nowhere"), "train"], "there is no such file"),
            (["-n", "2", "-hostfile", self.folder, "train"], "there is no such file"),
        ):
            with self.subTest(words):
                self.assert_error(launch(*words), 2, part)

    def test_help_is_printed_once(self):
        process = launch("-n", "2", "train", "--help")
        self.assert_exit(process, 0)
        self.assertEqual(process.stdout.count("Usage"), 1)
        self.assertIn("-n RANKS", launch("--help").stdout)


class Starts(ConvoyrunTest):
    def test_mpirun_that_starts_nothing_is_code_2_with_its_own_message(self):
        no_ssh = environment(
            OMPI_MCA_plm_rsh_agent="/bin/false", PRTE_MCA_plm_ssh_agent="/bin/false"
        )
        for words, part in (
            (["--no-such-option"], "no-such-option"),
            (["--no-such-option", "3"], "no-such-option"),
            (["-wdir", self.path("nowhere")], "nowhere"),
            (["-H", "192.0.2.1:2"], "daemon"),
            *([(["-map-by", "nonsense"], "nonsense")] if IS_OPEN_MPI else []),
        ):
            with self.subTest(words):
                process = self.train("-n", "2", *words, env=no_ssh)
                self.assert_error(process, 2, "started no rank")
                if IS_OPEN_MPI_4:
                    self.assertIn(part, process.stderr)

    def test_ranks_in_which_mpi_cannot_start_are_code_2(self):
        program = self.path("convoy")
        with open(program, "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\necho $$ > $CONVOY_EXIT_DIR/started.0\nexit 14\n")
        os.chmod(program, 0o755)
        process = self.train("-n", "2", env=environment() | {"CONVOY": program})
        self.assert_error(process, 2, "MPI did not start", "built with")

    def test_an_error_of_the_ranks_is_one_line(self):
        for more, code in ((["--dataa", "x"], 2), (["--data", self.path("nowhere")], 3)):
            process = self.train("-n", "2", more=more)
            self.assert_error(process, code)
            self.assertNotIn("mpirun", process.stderr)
            self.assertNotIn("-----", process.stderr)

    def test_a_bare_environment_is_enough(self):
        kept = ("CONVOY", "MPIRUN")
        bare = {name: value for name, value in environment().items() if name in kept}
        self.assert_ranks(self.train("-n", "2", env=bare), 2)
        for folder in (self.path("nowhere"), "/proc"):
            self.assert_ranks(self.train("-n", "2", env=dict(bare, TMPDIR=folder)), 2)


class LostHosts(ConvoyrunTest):
    # An mpirun that waits for a host that does not answer, and its child.
    WAITING = """#!/usr/bin/env bash
[[ $* == --version ]] && echo 'mpirun (Open MPI) 4.1.4' && exit
%s
sleep 1000 &
echo $! > "$(dirname "$0")/child"
%s
wait
"""

    def end_of(self, sign, before=":"):
        path = self.path("mpirun")
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.WAITING % (before, sign))
        os.chmod(path, 0o755)
        process = self.train("-n", "2", env=environment(MPIRUN=path, CONVOYRUN_PATIENCE="1"))
        with open(self.path("child"), encoding="utf-8") as file:
            child = file.read().strip()
        # It is gone, or dead and not yet collected by whoever adopted it.
        if os.path.exists(f"/proc/{child}/stat"):
            with open(f"/proc/{child}/stat", encoding="utf-8") as file:
                self.assertIn(") Z ", file.read())
        self.assertIn("a host is lost", process.stderr)
        return process

    def test_an_mpirun_that_waits_for_a_lost_host_is_ended(self):
        record = """echo '{"rank":0,"code":%d,"reason":"","step":1}' > "$CONVOY_EXIT_DIR/exit.0.json\""""
        gone = """(exec true) & wait $!; echo $! > "$CONVOY_EXIT_DIR/started.0\""""
        error = "echo 'convoy: error: [rank 1 on node2] all-reduce: waited 5 s' >&2"
        for sign, code in ((record % 6, 6), (record % 3, 3), (gone, 6), (error, 6)):
            with self.subTest(sign):
                self.assert_exit(self.end_of(sign), code)
        self.assert_exit(self.end_of(record % 6, before="trap '' TERM"), 6)


class StandardStreams(ConvoyrunTest):
    def shell(self, redirections, *words):
        return subprocess.run(
            ["bash", "-c", f'"$0" "$@" {redirections}', CONVOYRUN, *words], capture_output=True,
            text=True, timeout=TIMEOUT_S, env=environment(), check=False,
        )  # fmt: skip

    def test_closed_and_full_streams_change_nothing_if_nothing_is_lost(self):
        words = ["-n", "2", "train", *SMALL, "--resume", "none", "--output-dir", self.path("run")]
        for redirections in ("<&-", "2>&-", "2> /dev/full", "<&- >&- 2>&-", "2>&- > /dev/full"):
            with self.subTest(redirections):
                self.assert_exit(self.shell(redirections, *words), 0)

    def test_lost_output_is_code_5(self):
        for redirections, part in (
            (">&-", "closed"), ("<&- >&-", "closed"), ("> /dev/full", "No space"),
        ):  # fmt: skip
            with self.subTest(redirections):
                self.assert_error(self.shell(redirections, "-n", "1", "summary"), 5, part)
        self.assert_exit(self.shell("<&- >&- 2>&-", "-n", "1", "summary"), 5)

    def test_a_progress_bar_passes_on_a_terminal(self):
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        words = ["-n", "2", "train", *SMALL, "--steps", "50", "--output-dir", self.path("run")]
        with subprocess.Popen(
            [CONVOYRUN, *words], stdout=theirs, stderr=theirs, stdin=theirs, env=environment()
        ) as process:
            os.close(theirs)
            chunks = []
            try:
                while chunk := os.read(ours, 65536):
                    chunks.append(chunk)
            except OSError:  # the other end is closed
                pass
            self.assertEqual(process.wait(timeout=TIMEOUT_S), 0)
        text = b"".join(chunks)
        self.assertIn(b"\r\x1b[K[", text)
        self.assertIn(b"done: 50 steps", text)


if __name__ == "__main__":
    unittest.main()
