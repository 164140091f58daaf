#!/usr/bin/env python3
"""An archive with the layout of ILSVRC2012_img_train.tar and nothing to see in it.

    python3 bench/make_imagenet_tar.py FILE [--images 1281167]

For measuring how long `convoy data index` takes where the archive itself is not at hand: a tar of
1,000 class tars with as many members and header blocks as the official one, in 1.3 GB instead of
138 GB. Every image is a valid grey JPEG of 16 x 16 pixels; its brightness goes by the class. The
same options make the same file, byte by byte.

Prints the size and the seconds. Checks: Python's tarfile finds the classes, and the members of the
last one.
"""

import argparse
import io
import os
import struct
import tarfile
import time

BLOCK, RECORD = 512, 20 * 512
# Images of the classes: 732 to 1300, and together as many as the official archive has.
OFFICIAL = [1300] * 1000
OFFICIAL[::30] = [732] * 33 + [1211]


# --- The image ------------------------------------------------------------------------------------


def segment(marker, payload):
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def grey_jpeg(level):
    """A baseline JPEG of 2 x 2 blocks of one grey: coefficients other than DC are all zero."""
    # With a step of 8, a DC of n is n levels above the middle grey. The first block says the
    # difference from 0, the others none. The category (how many bits follow) has a code of four
    # bits, which is its own number; "end of block" is the only AC code: one bit, 0.
    difference = level - 128
    category = abs(difference).bit_length()
    value = difference if difference > 0 else difference + (1 << category) - 1
    first = f"{category:04b}" + (f"{value:0{category}b}" if category else "") + "0"
    bits = first + 3 * "00000"
    bits += "1" * (-len(bits) % 8)
    scan = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")
    dc_codes = bytes([0, 0, 0, 12] + 12 * [0]) + bytes(range(12))
    ac_codes = bytes([1] + 15 * [0]) + b"\x00"
    return b"".join([
        b"\xff\xd8",
        segment(0xDB, b"\x00" + 64 * b"\x08"),
        segment(0xC0, struct.pack(">BHHBBBB", 8, 16, 16, 1, 1, 0x11, 0)),
        segment(0xC4, b"\x00" + dc_codes),
        segment(0xC4, b"\x10" + ac_codes),
        segment(0xDA, bytes([1, 1, 0x00, 0, 63, 0])),
        scan,
        b"\xff\xd9",
    ])  # fmt: skip


# --- The archive ----------------------------------------------------------------------------------


def make_headers(size):
    """A function from a name (bytes) to the ustar header of a file of `size` bytes."""
    # Mode, owner, group, size, time; after the checksum: a plain file, no link.
    before = b"0000644\0" + 2 * b"0000000\0" + b"%011o\0" % size + b"00000000000\0"
    after = b"0" + bytes(100) + b"ustar\0" + b"00"
    after += bytes(BLOCK - 100 - len(before) - 8 - len(after))
    known = sum(before) + sum(after) + 8 * ord(" ")  # the checksum counts itself as blanks

    def header(name):
        return name.ljust(100, b"\0") + before + b"%06o\0 " % (known + sum(name)) + after

    return header


def padding(size, unit):
    return bytes(-size % unit)


def class_tar(wnid, images, level):
    jpeg = grey_jpeg(level)
    header = make_headers(len(jpeg))
    content = jpeg + padding(len(jpeg), BLOCK)
    members = b"".join(header(b"%s_%d.JPEG" % (wnid, i)) + content for i in range(images))
    end = bytes(2 * BLOCK)
    return members + end + padding(len(members) + len(end), RECORD)


def class_sizes(images):
    """As many images a class as officially, in proportion."""
    total, so_far, sizes = sum(OFFICIAL), 0, []
    for official in OFFICIAL:
        sizes.append(images * (so_far + official) // total - images * so_far // total)
        so_far += official
    return sizes


def wnid_of(index):
    return b"n%08d" % (1_000_000 + 10_000 * index)


def write_archive(path, sizes):
    with open(path, "wb", buffering=1 << 22) as file:
        for index, images in enumerate(sizes):
            wnid = wnid_of(index)
            content = class_tar(wnid, images, level=16 + (7 * index) % 224)
            file.write(make_headers(len(content))(wnid + b".tar") + content)
        file.write(bytes(2 * BLOCK))
        file.write(padding(file.tell(), RECORD))


def check(path, sizes):
    with tarfile.open(path, "r:") as archive:
        members = archive.getmembers()
        wnids = [wnid_of(index).decode() for index in range(len(sizes))]
        assert [member.name for member in members] == [wnid + ".tar" for wnid in wnids]
        last = tarfile.open(fileobj=io.BytesIO(archive.extractfile(members[-1]).read()))
        expected = [f"{wnids[-1]}_{i}.JPEG" for i in range(sizes[-1])]
        assert last.getnames() == expected


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", metavar="FILE", help="the archive to write")
    parser.add_argument("--images", type=int, default=sum(OFFICIAL), help="in all [%(default)s]")
    options = parser.parse_args()

    start = time.perf_counter()
    sizes = class_sizes(options.images)
    write_archive(options.file, sizes)
    seconds = time.perf_counter() - start
    check(options.file, sizes)
    print(
        f"{options.file}: {sum(sizes):,} images in {len(sizes):,} classes of {min(sizes)} to "
        f"{max(sizes)}, {os.path.getsize(options.file) / 1e9:.3f} GB, {seconds:.1f} s"
    )


if __name__ == "__main__":
    main()
