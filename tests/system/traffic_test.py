"""What `summary --program` predicts of a step, against what the ranks of a real run count and use."""

import json
import unittest

from convoy import BACKEND, ConvoyTest, run
from fault_case import SANITIZED

# What a loader moves; a bench makes its images itself.
OF_LOADERS = ("crops", "samples")


def rows_of(traffic):
    """Returns calls and bytes by operation, kind of collective and axes."""
    return {
        (row["operation"], row["collective"], row["over"]): (row["calls"], row["bytes"])
        for row in traffic
        if row["operation"] not in OF_LOADERS
    }


class StepTest(ConvoyTest):
    def predicted(self, rank, *arguments):
        process = run("summary", "--program", "--json", "--rank", str(rank), *arguments)
        self.assert_exit(process, 0)
        return json.loads(process.stdout)

    def counted(self, ranks, *arguments):
        """Returns what each rank says of its steps, by rank."""
        process = run("bench", "step", "--json", "--limits", "off", "--steps", "2", "--warm-up", "1",
                      *arguments, ranks=ranks)  # fmt: skip
        self.assert_exit(process, 0)
        found = json.loads(process.stdout)["by_rank"]
        self.assertEqual([row["rank"] for row in found], list(range(ranks)))
        return found


class Traffic(StepTest):
    # A small picture: the exchanges, the gradients and their names are those of the full size.
    SMALL = ("--model", "alexnet2012", "--input", "96", "--batch-size", "8", "--classes", "11")

    def check(self, ranks, *cut, step=(), shard_update="off"):
        arguments = (*self.SMALL, *cut, *step, "--shard-update", shard_update)
        found = self.counted(ranks, *arguments)
        for row in found:
            predicted = self.predicted(row["rank"], *arguments)
            self.assertEqual(rows_of(row["traffic"]), rows_of(predicted["traffic"]), row["rank"])
            operations = predicted["program"]
            self.assertEqual(predicted["bytes"], sum(one["bytes"] for one in operations))
            self.assertEqual(predicted["bytes"], sum(one["bytes"] for one in predicted["traffic"]))
        self.assertGreater(sum(bytes for _, bytes in rows_of(found[0]["traffic"]).values()), 0)

    def test_replicas(self):
        self.check(2, "--replicas", "2")

    def test_uneven_replicas_that_reduce_in_bf16(self):
        self.check(3, "--replicas", "3", step=("--reduce-dtype", "bf16"))

    def test_towers(self):
        self.check(2, "--towers", "2", "--replicas", "1")

    def test_shards(self):
        self.check(2, "--fc-shards", "2", "--replicas", "1")

    def test_shards_and_towers(self):
        self.check(4, "--fc-shards", "2", "--towers", "2", "--replicas", "1")

    def test_shards_and_replicas(self):
        self.check(4, "--fc-shards", "2", "--replicas", "2")

    def test_micro_batches(self):
        self.check(2, "--fc-shards", "2", "--replicas", "1", step=("--accumulate", "2"))

    def test_sharded_update(self):
        self.check(2, "--replicas", "2", shard_update="on")
        self.check(4, "--fc-shards", "2", "--replicas", "2", shard_update="on")

    def test_norms(self):
        for step in ("--clip-grad", "1"), ("--optimizer", "lars"):
            self.check(2, "--fc-shards", "2", "--replicas", "1", step=step)

    def test_batch_norm(self):
        self.check(4, "--fc-shards", "2", "--replicas", "2", step=("--norm", "bn"))


@unittest.skipUnless(BACKEND == "cpu" and not SANITIZED, "the memory of a plain program on the CPU")
class Memory(StepTest):
    def check(self, ranks, *arguments):
        arguments = ("--model", "alexnet2012", "--batch-size", "64", "--shard-update", "off", *arguments)
        for row in self.counted(ranks, *arguments):
            predicted = self.predicted(row["rank"], *arguments)["memory_bytes"]
            self.assertLess(abs(row["memory_bytes"] / predicted - 1), 0.1, (row, predicted))

    def test_a_rank_uses_what_is_predicted(self):
        self.check(1, "--replicas", "1")

    def test_each_of_two_ranks_uses_what_is_predicted(self):
        self.check(2, "--fc-shards", "2", "--replicas", "1")


if __name__ == "__main__":
    unittest.main()
