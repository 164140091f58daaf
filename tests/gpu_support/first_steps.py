"""The steps of first.py. Each returns its line, and what is kept of it."""

import json
import os
import re
import shutil
import sys

from device_run import SOURCE, Failed

OWN_KERNELS = "MemoryTest*:Update*:Input*:*MaxPool*:*Lrn*:*Dropout*"


def rate(bench):
    return f"{bench['images_per_s']:.0f} images/s, {bench['step_ms']['p50']:.2f} ms a step"


def ms_of(bench, operation):
    return sum(row["ms"] for row in bench["operations"] if row["operation"].startswith(operation))


def environment(run):
    """The device, its clocks, links and libraries."""
    doctor = json.loads(run.call([run.convoy, "doctor", "--backend", "cuda", "--json"], 30))
    line = doctor["backend"]
    if shutil.which("nvidia-smi"):
        query = "driver_version,clocks.sm,clocks.max.sm,clocks.mem,power.limit,pcie.link.gen.current,ecc.mode.current"
        found = run.call(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"], 10)
        run.call(["nvidia-smi", "-q"], 10)
        line += f"; {query}: {found.strip()}"
    return line, doctor


def small_network(run, graph):
    bench = run.bench(
        40, "--cuda-graph", graph, "--limits", "off", model="lenet5", dtype="fp32",
        batch=lambda sizes: sizes.small_batch, steps=lambda sizes: sizes.small_steps,
    )  # fmt: skip
    if graph == "on" and "why_not_recorded" in bench:
        raise Failed("it was not recorded: " + bench["why_not_recorded"])
    expected = run.tables.setdefault("first loss", bench["first_loss"])
    if bench["first_loss"] != expected:
        raise Failed(f"the first loss is {bench['first_loss']}, and {expected} where it is queued")
    return rate(bench), bench


def queued(run):
    """A small network, queued operation by operation."""
    return small_network(run, "off")


def recorded(run):
    """The same, recorded."""
    return small_network(run, "on")


def own_kernels(run):
    """Our own kernels against the oracle."""
    return run.gtest("backend_cuda_test", OWN_KERNELS, 40), {}


def nccl(run):
    """NCCL for one rank: connect, register, reduce, record, check, end, abort."""
    return run.gtest("nccl_cuda_test", "*", 60), {}


def choosing(run):
    """AlexNet in bf16, queued: which kernels are chosen, and how long that takes."""
    bench = run.bench(110, "--cuda-graph", "off", "--limits", "off", steps=lambda sizes: 3)
    measured = bench.get("measured_kernels", [])
    if not measured:
        return f"all kernels were known; {rate(bench)}", bench
    seconds = sum(one["seconds"] for one in measured)
    slowest = max(measured, key=lambda one: one["seconds"])
    product = " ".join(slowest["product"].split()[:3])
    return (
        f"{len(measured)} products in {seconds:.1f} s, {sum(one['refused'] for one in measured)} kernels "
        f"refused; most for {product}: {slowest['seconds']:.1f} s; {rate(bench)}"
    ), bench


def whole(run):
    """AlexNet in bf16, recorded: throughput, and the operations that take longest."""
    bench = run.bench(60)
    run.tables["whole"] = bench
    if "why_not_recorded" in bench:
        raise Failed("it was not recorded: " + bench["why_not_recorded"])
    longest = sorted(bench["operations"], key=lambda row: -row["ms"])[:4]
    top = ", ".join(f"{row['operation']} {row['ms']:.2f} ms" for row in longest)
    share = f"; {100 * bench['share_of_limit']:.0f} % of the limit" if "share_of_limit" in bench else ""
    return f"{rate(bench)}{share}; longest: {top}", bench


def correct(run):
    """Training on the device against the oracle, recorded against queued, published losses."""
    tests = "DeviceTraining.*" if not run.rehearse else "DeviceTraining.RecordedAndRepeated*"
    return run.gtest("device_cuda_test", f"{tests}:DeviceTrace.*", 60), {}


def large_batch(run):
    """Every product of AlexNet at the large batch against the oracle."""
    return run.gtest("backend_cuda_test", "*LargeBatch*", 90), {}


def beside_pytorch(run):
    """The headline, beside PyTorch eager and compiled, in turn."""
    sizes = run.sizes
    command = [
        sys.executable, os.path.join(SOURCE, "bench", "gpu_step.py"), "--convoy", run.convoy, "--out",
        run.options.out, "--parts", "steps", "--batches", sizes.batch, "--dtypes", "bf16", "--rounds",
        1 if run.rehearse else 2, "--budget", 150, *sizes.model_words,
        *(["--quick"] if run.rehearse else []),
    ]  # fmt: skip
    run.call(command, 150)
    with open(os.path.join(run.options.out, "bench.json"), encoding="utf-8") as file:
        row = json.load(file)["rows"][-1]
    line = f"Convoy {row['convoy']['images_per_s']:.0f} images/s"
    for side in ("eager", "compiled"):
        if side in row:
            line += f", PyTorch {side} {row[side]['images_per_s']:.0f}"
    return line if "eager" in row else line + "; PyTorch is not there", row


def small_batches(run):
    """Smaller batches in bf16: what a step costs whatever its size."""
    benches = {}
    for index, batch in enumerate(run.sizes.batches):
        bench = run.bench(30, "--limits", "off", batch=lambda sizes, index=index: sizes.batches[index])
        benches[str(batch)] = bench
    return "; ".join(f"batch {batch}: {rate(bench)}" for batch, bench in benches.items()), benches


def tf32(run):
    """TF32 at the large batch."""
    bench = run.bench(40, "--limits", "off", "--tf32", "on", dtype="fp32")
    return rate(bench), bench


def slices(run):
    """What cutting channels for grouped convolutions costs: twice one tower's layers, against them."""
    half = run.bench(40, "--limits", "off", model="alexnet-half")
    if "whole" not in run.tables:
        raise Failed("there is nothing to compare with")
    parts = []
    for layer in ("conv2", "conv4", "conv5"):
        grouped, plain = ms_of(run.tables["whole"], layer), 2 * ms_of(half, layer)
        parts.append(f"{layer} {grouped:.2f} ms against 2 x one group, {plain:.2f} ms")
    return "; ".join(parts), half


def counters(run):
    """Counters of our own kernels."""
    if not shutil.which("ncu"):
        return "skipped: there is no ncu", {}
    bench = [
        run.convoy, "bench", "step", "--backend", "cuda", "--dtype", "bf16", "--batch-size", run.sizes.batch,
        "--cuda-graph", "off", "--limits", "off", "--warm-up", "1", "--steps", "1", "--kernel-cache",
        run.kernels,
    ]  # fmt: skip
    kernels = "regex:MaxPool|SumParts|Pack|Finish|Update|Mask"
    output = run.call(
        ["ncu", "--clock-control", "none", "--set", "basic", "-k", kernels, "--launch-count", "24", *bench], 60
    )
    with open(os.path.join(run.options.out, "counters.txt"), "w", encoding="utf-8") as file:
        file.write(output)
    busiest = re.findall(r"DRAM Throughput\s+%\s+([\d.]+)", output)
    return f"{len(busiest)} kernels in counters.txt; DRAM busy {', '.join(busiest[:8])} %", {}


def sanitized(run, tool, gtest_filter):
    if not shutil.which("compute-sanitizer"):
        return "skipped: there is no compute-sanitizer", {}
    wrap = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "99"]
    return run.gtest("backend_cuda_test", gtest_filter, 45, wrap), {}


def memcheck(run):
    """Memory faults of our own kernels."""
    return sanitized(run, "memcheck", OWN_KERNELS)


def racecheck(run):
    """Races in the memory that threads of a group share."""
    return sanitized(run, "racecheck", "*MaxPool*:*Lrn*:Update*")


def loader_fed(run):
    """Training fed by the loader from photographs."""
    photos = os.path.join(os.environ.get("CONVOY_SHARED", os.path.join(SOURCE, "..", "shared")), "data")
    photos = os.path.join(photos, "photos-mini.tar")
    if not os.path.exists(photos):
        return f"skipped: {photos} is not there", {}
    folder = os.path.join(run.options.out, "loader-fed")
    shutil.rmtree(folder, ignore_errors=True)
    workers = max(1, (os.cpu_count() or 2) - 1)
    command = [
        run.convoy, "train", "--backend", "cuda", "--data", photos, "--model", "alexnet2012",
        *run.sizes.model_words, "--dtype", "bf16", "--batch-size", 4 if run.rehearse else 53, "--epochs",
        1 if run.rehearse else 60, "--lr", "0.001", "--mean", "none", "--eval-every", "0", "--print-freq",
        "1", "--workers", workers, "--index-folder", folder, "--output-dir", folder, "--kernel-cache",
        run.kernels, *(["--steps", "3"] if run.rehearse else []),
    ]  # fmt: skip
    run.call(command, 40)
    with open(os.path.join(folder, "metrics.jsonl"), encoding="utf-8") as file:
        steps = [line for line in map(json.loads, file) if line["event"] == "step"]
    steps = steps[len(steps) // 3 :]
    middle = sorted(steps, key=lambda step: step["images_per_s"])[len(steps) // 2]
    return (
        f"{middle['images_per_s']:.0f} images/s with {workers} workers, waiting "
        f"{middle['wait_data_ms']:.2f} ms a step for data", middle
    )  # fmt: skip


def two_ranks(run, *cut):
    """Two ranks that share the device, through host memory."""
    launcher = os.path.join(SOURCE, "launch", "convoyrun")
    words = [
        "bench", "step", "--backend", "cuda", "--share-device", "on", "--communicator", "mpi", *cut,
        "--json", "--dtype", "bf16", "--batch-size", 4 if run.rehearse else 128, "--warm-up", 1,
        "--steps", 2 if run.rehearse else 5, "--limits", "off", "--kernel-cache", run.kernels,
        *run.sizes.model_words,
    ]  # fmt: skip
    bench = json.loads(run.call([launcher, "-n", 2, *words], 50, dict(os.environ, CONVOY=run.convoy)))
    return rate(bench), bench


def staged(run):
    """The paper's cut on two ranks that share the device."""
    return two_ranks(run, "--towers", "2")


def shards(run):
    """Fully connected layers cut over two ranks that share the device."""
    line, bench = two_ranks(run, "--fc-shards", "2")
    if bench["fc_shards"] != 2:
        raise Failed(f"it ran {bench['fc_shards']} shards")
    return line, bench


def rows(run):
    """The time of every operation against the rows of a batch, for a planner."""
    table = {}
    for index, batch in enumerate(run.sizes.rows):
        bench = run.bench(60, "--limits", "off", batch=lambda sizes, index=index: sizes.rows[index])
        for row in bench["operations"]:
            table.setdefault(row["operation"], {})[str(batch)] = row["ms"]
    path = os.path.join(run.options.out, "operations.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"unit": "ms", "dtype": "bf16", "model": "alexnet2012", "rows": table}, file, indent=1)
    return f"{len(table)} operations at {run.sizes.rows} rows: {path}", {}


FIRST = [
    environment, queued, recorded, own_kernels, nccl, choosing, whole, correct, large_batch,
    beside_pytorch, small_batches, tf32, slices, counters, memcheck, racecheck, loader_fed, staged, shards,
]  # fmt: skip
SECOND = [environment, whole, rows, slices, small_batches, tf32, staged, shards]
