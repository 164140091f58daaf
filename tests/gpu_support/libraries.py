#!/usr/bin/env python3
"""Where CUDA's libraries are for a CUDA module: what the loader finds, else Python's wheels.

    libraries.py MODULE           prints folders for LD_LIBRARY_PATH, with colons between them
    libraries.py --versions       prints what the module takes then: library, version, path
"""

import ctypes
import glob
import os
import re
import site
import subprocess
import sys

VERSIONS = {  # library: function, whether it fills an int, and how the number is written
    "libcudart": ("cudaRuntimeGetVersion", True, lambda n: f"{n // 1000}.{n % 1000 // 10}"),
    "libcublasLt": ("cublasLtGetVersion", False, lambda n: f"{n // 10000}.{n // 100 % 100}.{n % 100}"),
    "libcudnn": ("cudnnGetVersion", False, lambda n: f"{n // 10000}.{n // 100 % 100}.{n % 100}"),
    "libnccl": ("ncclGetVersion", True, lambda n: f"{n // 10000}.{n // 100 % 100}.{n % 100}"),
}


def needed(module):
    """Name: path of every library, or None where the loader does not find it."""
    output = subprocess.run(["ldd", module], capture_output=True, text=True, check=True).stdout
    found = {}
    for name, path in re.findall(r"^\s*(\S+) => (not found|\S+)", output, re.MULTILINE):
        found[name] = None if path == "not found" else path
    return found


def folders():
    """Where wheels and toolkits keep libraries."""
    sites = [*site.getsitepackages(), site.getusersitepackages(), *sys.path]
    patterns = [f"{place}/nvidia/*/lib" for place in sites if place]
    patterns += ["/usr/local/cuda/lib64", "/usr/local/cuda*/targets/*/lib"]
    found = [folder for pattern in patterns for folder in sorted(glob.glob(pattern))]
    return list(dict.fromkeys(found))


def can_load(name):
    try:
        ctypes.CDLL(name)
        return True
    except OSError:
        return False


def missing_folders(module):
    libraries = needed(module)
    wanted = [name for name, path in libraries.items() if path is None]
    # cuDNN compiles some kernels as it runs, and loads this by name.
    runtime = next((name for name in libraries if name.startswith("libcudart.so.")), "")
    if runtime:
        compiler = runtime.replace("cudart", "nvrtc")
        if not can_load(compiler):
            wanted.append(compiler)
    chosen = []
    for name in wanted:
        holding = [folder for folder in folders() if os.path.exists(os.path.join(folder, name))]
        if not holding:
            print(f"tests/gpu: {name} was not found", file=sys.stderr)
        elif not set(holding) & set(chosen):
            chosen.append(holding[0])
    return chosen


def version_of(name, path):
    if name not in VERSIONS:
        return None, ""
    function, fills, write = VERSIONS[name]
    library = ctypes.CDLL(path)
    if fills:
        number = ctypes.c_int()
        getattr(library, function)(ctypes.byref(number))
        return number.value, write(number.value)
    getattr(library, function).restype = ctypes.c_size_t
    number = getattr(library, function)()
    return number, write(number)


def print_versions(module):
    for file, path in sorted(needed(module).items()):
        name = file.split(".so")[0]
        if name in VERSIONS:
            if path is None:
                print(f"{name} 0 missing -")
                continue
            try:
                number, text = version_of(name, path)
            except OSError as error:
                print(f"tests/gpu: {error}", file=sys.stderr)
                number, text = 0, "unknown"
            print(f"{name} {number} {text} {os.path.realpath(path)}")


if __name__ == "__main__":
    if sys.argv[1] == "--versions":
        print_versions(sys.argv[2])
    else:
        print(":".join(missing_folders(sys.argv[1])))
