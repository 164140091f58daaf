#!/usr/bin/env python3
"""Copies programs and the libraries that they need into one folder that runs where it is put.

    collect.py FOLDER PROGRAM=PATH_IN_FOLDER...

The programs and their libraries look for each other along relative paths then; libraries go into
FOLDER/lib. Left to the other machine: glibc, and NVIDIA's libraries. Open MPI goes along, with the
plugins that work on one host; FOLDER/environment sets what it needs to be found.
"""

import glob
import os
import re
import shutil
import struct
import subprocess
import sys

LEFT_OUT = re.compile(
    r"^(ld-linux.*|linux-vdso.*|lib(c|m|dl|pthread|rt|util|resolv|nsl|anl|mvec)\.so\..*"
    r"|lib(cuda|cudart|cudnn.*|nccl|cublas|cublasLt|nvrtc.*|nvJitLink)\.so.*|libconvoy_cuda\.so)$"
)
# Networks that one host does not need, with libraries of their own.
PLUGINS_LEFT_OUT = re.compile(
    r"_(ucx|ofi|openib|uct|psm|psm2|slurm|flux|jsm|gridengine|monitoring|romio321|ompio)\.so$"
    r"|mca_(scoll|spml|sshmem|memheap|atomic|fs|fbtl|fcoll|sharedfp|io)_"
)
# Sourced by tests/gpu, or by hand. Settings of Open MPI as Debian's own file has them.
ENVIRONMENT = """# source build/release/environment: to run convoy, mpirun and launch/convoyrun by hand.
release=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export OPAL_PREFIX=$release/openmpi PATH=$release/bin:$PATH
export OMPI_MCA_btl_base_warn_component_unused=0 OMPI_MCA_osc=^ucx,pt2pt
export OMPI_MCA_plm=isolated                      # one host, and no ssh
export PMIX_MCA_pcompress_base_silence_warning=1  # PMIx goes without its plugins
"""


def libraries_of(path):
    """Name: path of all libraries, those of libraries too."""
    output = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
    missing = [
        name for name in re.findall(r"^\s*(\S+) => not found", output, re.MULTILINE)
        if not LEFT_OUT.match(name)
    ]  # fmt: skip
    if missing:
        sys.exit(f"{path}: {', '.join(missing)} was not found")
    return dict(re.findall(r"^\s*(\S+) => (/\S+)", output, re.MULTILINE))


def file_offset(segments, address):
    for offset, begin, size in segments:
        if begin <= address < begin + size:
            return offset + address - begin
    raise ValueError(hex(address))


def look_in(path, folder):
    """Replaces the search path of an ELF file, where it has one, and makes it one that its
    libraries inherit. Says whether it had one."""
    with open(path, "rb") as file:
        data = bytearray(file.read())
    table, size, count = *struct.unpack_from("<Q", data, 32), *struct.unpack_from("<HH", data, 54)
    segments, dynamic = [], None
    for i in range(count):
        kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", data, table + i * size)
        if kind == 1:
            segments.append((offset, address, length))
        elif kind == 2:
            dynamic = (offset, length)
    entries = {}
    for at in range(dynamic[0], sum(dynamic), 16):
        tag, value = struct.unpack_from("<qQ", data, at)
        entries.setdefault(tag, (at, value))
    for tag in (15, 29):  # DT_RPATH, DT_RUNPATH
        if tag not in entries:
            continue
        at, value = entries[tag]
        begin = file_offset(segments, entries[5][1]) + value  # 5: DT_STRTAB
        end = data.index(b"\0", begin)
        new = b"$ORIGIN" + (b"/" + folder.encode() if folder else b"")
        if len(new) > end - begin:
            sys.exit(f"{path}: {new.decode()} is longer than the path it replaces")
        data[begin:end] = new.ljust(end - begin, b"\0")
        struct.pack_into("<q", data, at, 15)
    with open(path, "wb") as file:
        file.write(data)
    return 15 in entries or 29 in entries


class Collection:
    def __init__(self, folder):
        self.folder = folder
        self.seen = set()
        os.makedirs(os.path.join(folder, "lib"), exist_ok=True)

    def add(self, source, target, mode=0o755):
        """One file, and its libraries into lib/."""
        path = os.path.join(self.folder, target)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copyfile(source, path)
        os.chmod(path, mode)
        lib = os.path.join(self.folder, "lib")
        relative = os.path.relpath(lib, os.path.dirname(path))
        if not look_in(path, "" if relative == "." else relative) and mode == 0o755:
            sys.exit(f"{source}: it was linked without a path to its libraries")
        for name, found in libraries_of(source).items():
            if name in self.seen or LEFT_OUT.match(name):
                continue
            self.seen.add(name)
            self.add(found, os.path.join("lib", name), 0o644)

    def add_open_mpi(self):
        about = subprocess.run(
            ["ompi_info", "--path", "all", "--parsable"], capture_output=True, text=True, check=True
        ).stdout
        where = dict(re.findall(r"^path:(\w+):(.*)$", about, re.MULTILINE))
        for name, target in (("orterun", "mpirun"), ("orted", "orted")):
            self.add(os.path.realpath(os.path.join(where["bindir"], name)), f"bin/{target}")
        os.makedirs(os.path.join(self.folder, "openmpi"), exist_ok=True)
        os.symlink("../bin", os.path.join(self.folder, "openmpi/bin"))
        with open(os.path.join(self.folder, "environment"), "w", encoding="utf-8") as file:
            file.write(ENVIRONMENT)
        prefix = where["prefix"]
        for plugin in sorted(glob.glob(os.path.join(where["pkglibdir"], "mca_*.so"))):
            if not PLUGINS_LEFT_OUT.search(plugin):
                self.add(plugin, os.path.join("openmpi", os.path.relpath(plugin, prefix)), 0o644)
        texts = where["pkgdatadir"]
        shutil.copytree(
            texts, os.path.join(self.folder, "openmpi", os.path.relpath(texts, prefix)),
            ignore=shutil.ignore_patterns("*wrapper*"),
        )  # fmt: skip


def main():
    collection = Collection(sys.argv[1])
    for pair in sys.argv[2:]:
        source, target = pair.split("=")
        collection.add(source, target)
    collection.add_open_mpi()
    print(f"{len(collection.seen)} libraries")


if __name__ == "__main__":
    main()
