"""Writes corpus/NAME/made-*, the inputs that fuzzing starts from. Everything in them is made here.

    python3 make_corpus.py          needs Pillow 10.2 or newer for the JPEG files, else nothing

Files in corpus/ that do not start with made- were found by fuzzing and are left alone.
"""

import gzip
import io
import pathlib
import struct
import tarfile
import zlib

from PIL import Image

CORPUS = pathlib.Path(__file__).parent / "corpus"


def save(target, name, data):
    assert len(data) < 4096, (target, name, len(data))
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"made-{name}").write_bytes(data)


def u16(value):
    return struct.pack("<H", value)


# --- Tars -----------------------------------------------------------------------------------------


def tar(members, form=tarfile.USTAR_FORMAT):
    """(name, content) pairs; None as content makes a folder. Of the end mark one block."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        end = file.tell()
    return file.getvalue()[:end] + bytes(512)


def make_tars():
    flat = tar([("a", None), ("a/0.jpg", b"first"), ("b/1.png", b"next"), ("readme.txt", b"")])
    long = "d" * 90 + "/" + "f" * 90 + ".JPEG"
    link = bytearray(tar([("a/0.jpg", b"")]))
    link[156:157] = tarfile.SYMTYPE
    large = bytearray(tar([("a/0.jpg", b"1234")]))
    large[124:136] = b"\x80" + (1 << 40).to_bytes(11, "big")
    tars = {
        "flat": flat,
        "gnu-long": tar([("x" + long, b"x")], tarfile.GNU_FORMAT),
        "pax-long": tar([("\u00e4" + long, b"x")], tarfile.PAX_FORMAT),
        "prefix": tar([(long, b"x")]),
        "base-256": large,
        "link": link,
        "no-end": flat[:-512],
    }
    for name, data in tars.items():
        save("tar", name, b"\0" + data)
        save("archive", name, b"\0\0" + data)
    save("tar", "raw", b"\1" + flat)
    nested = tar([("n01.tar", tar([("n01_0.JPEG", b"")])), ("n02.tar", tar([("n02_0.JPEG", b"")]))])
    save("archive", "nested", b"\0\0" + nested)
    shards = tar([("0.jpg", b""), ("0.cls", b"3"), ("1.cls", b"0\n"), ("1.jpg", b"")])
    save("archive", "shards", b"\0\0" + shards)
    first = tar([("0.jpg", b"x")])
    second = tar([("1.jpg", b"y")])
    save("archive", "of-classes", bytes([2, len(first) // 512]) + first + second)


# --- Files with a checksum ------------------------------------------------------------------------


def array(code, values):
    return struct.pack(f"<Q{len(values)}{code}", len(values), *values)


def text(value):
    return struct.pack("<Q", len(value)) + value


def make_checked():
    # Of the archive in index_fuzz.cc.
    members = (
        struct.pack("<BqQ", 0, 0, 2) + text(b"a") + text(b"b")
        + array("I", [0, 1, 2]) + array("q", [512, 1536]) + array("I", [5, 4]) + array("H", [0, 0])
        + array("I", [0, 5, 10]) + text(b"0.jpg1.jpg"))
    save("index", "two-images", b"\0" + members)
    save("index", "one-folder",
         b"\0" + struct.pack("<BQ", 2, 1) + text(b".txt") + text(b"a/x.txt")
         + struct.pack("<qQ", 3, 1) + text(b"a") + array("I", [0, 1]) + array("q", [512])
         + array("I", [5]) + array("H", [0]) + array("I", [0, 5]) + text(b"0.jpg"))
    stamp = struct.pack("<Q", 1) + text(b"a.tar") + struct.pack("<qq", 3072, 0)
    save("index", "other-time", b"\1" + stamp + members)
    save("index", "no-checksum", b"\2CONVOYIX" + struct.pack("<I", 2) + stamp + members)

    for side, channels in [(4, 3), (2, 1)]:
        values = (
            struct.pack("<qii", 10, side, channels)
            + array("f", [100.0] * (side * side * channels)) + array("f", [100.0] * channels)
            + array("f", [9.0] * channels) + array("d", [81.0] * channels ** 2))
        save("statistics", f"{channels}-channels", b"\0" + values)
    save("statistics", "no-checksum", b"\1CONVOYST" + struct.pack("<I", 1) + values)


# --- Plain pixels ---------------------------------------------------------------------------------


def idx(sizes, elements):
    return struct.pack(f">BBBB{len(sizes)}I", 0, 0, 8, len(sizes), *sizes) + elements


def make_plain():
    def save_idx(name, labels, images):
        save("idx", name, u16(len(labels)) + labels + images)

    labels = idx([4], bytes([1, 0, 2, 1]))
    grey = idx([4, 3, 2], bytes(range(24)))
    save_idx("grey", labels, grey)
    save_idx("colour", labels, idx([4, 2, 2, 3], bytes(range(48))))
    save_idx("gzip", gzip.compress(labels, mtime=0), gzip.compress(grey, mtime=0))
    many = bytes(1 << 16)
    save_idx("packed", gzip.compress(idx([1 << 16], many), mtime=0),
             gzip.compress(idx([1 << 16, 1, 1], many), mtime=0))
    save_idx("overflow", labels, idx([0xFFFFFFFF] * 3, b""))

    ten = "".join(f"class {i}\n" for i in range(10)).encode()
    hundred = "".join(f"c{i:02}\n" for i in range(100)).encode()
    pixels = bytes(i % 251 for i in range(3072))
    save("cifar", "10", b"\0" + u16(len(ten)) + ten + b"\7" + pixels)
    save("cifar", "100", b"\1" + u16(len(hundred)) + hundred + b"\1\x63" + pixels)
    save("cifar", "filled", b"\2" + u16(0) + b"\3" + bytes(range(100)))
    save("cifar", "label", b"\2" + u16(0) + b"\x0a" + bytes(range(100)))


# --- The devkit -----------------------------------------------------------------------------------


def element(kind, data):
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def array_of(kind, sizes, name, content):
    """A miMATRIX of class `kind`."""
    return element(14, element(6, struct.pack("<II", kind, 0))
                   + element(5, struct.pack(f"<{len(sizes)}i", *sizes)) + element(1, name) + content)


def mat(rows, compressed=False, sizes=None, words="some, words", utf8=False):
    fields = [b"ILSVRC2012_ID", b"WNID", b"words", b"num_children"]
    content = struct.pack("<Ii", 4 << 16 | 5, 16) + element(1, b"".join(f.ljust(16, b"\0") for f in fields))
    for number, wnid, children in rows:
        content += array_of(11, [1, 1], b"", element(4, struct.pack("<H", number)))
        for letters in (wnid.decode(), words):
            coded = (element(16, letters.encode()) if utf8 else element(4, letters.encode("utf-16-le")))
            content += array_of(4, [1, len(letters)], b"", coded)
        content += array_of(6, [1, 1], b"", element(9, struct.pack("<d", children)))
    synsets = array_of(2, sizes or [len(rows), 1], b"synsets", content)
    if compressed:
        packed = zlib.compress(synsets)
        synsets = struct.pack("<II", 15, len(packed)) + packed
    return b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM" + synsets


def make_devkits():
    rows = [(1, b"n02119789", 0), (2, b"n01440764", 0), (3, b"n00001740", 2)]
    save("mat", "plain", mat(rows))
    save("mat", "compressed", mat(rows, compressed=True))
    save("mat", "of-a-million", mat(rows, sizes=[1 << 20, 1]))
    save("mat", "utf-8", mat(rows, words="cr\u00eape", utf8=True))
    save("mat", "of-three-dimensions", mat(rows, sizes=[3, 1, 1]))

    truth = b"2\n1\r\n2\n"
    table = b"1 n02119789 kit fox\n2\tn01440764 tench\n"
    save("devkit", "texts", b"\0" + u16(len(truth)) + truth + table)
    save("devkit", "wnids", b"\1n01440764\nn02119789\nn01440764\n")
    kit = [("k/a_validation_ground_truth.txt", truth), ("k/meta.txt", table)]
    save("devkit", "tar", b"\1" + tar(kit))
    save("devkit", "tar-gz", b"\2" + gzip.compress(tar(kit), mtime=0))
    with_mat = tar([kit[0], ("k/meta.mat", mat(rows[:2], compressed=True))])
    save("devkit", "tar-with-mat", b"\1" + with_mat)


def make_lists():
    save("csv", "of-names", b"id,breed\na,dog\nb.png,cat\nb.jpg,dog\n")
    save("csv", "of-numbers", b"a.jpg;10\r\nb.png;2\r\nb.jpg;0")
    save("csv", "quoted", b'\xef\xbb\xbf"image","x","label"\n"a","""1,\n",dog\nb.png, y ,cat\nb.jpg,,cat')
    save("csv", "of-boxes", b"a.jpg\tn01\t0\t1\t2\t3\nb.png\tn02\t0\t1\t2\t3\nb.jpg\tn01\t0\t1\t2\t3\n")
    save("csv", "that-does-not-fit", b"image,label\na,\na,x\nq,y\n")


# --- Images ---------------------------------------------------------------------------------------

# channels 3, one row at a time, all of the image; grey, 16 rows, a part of it, with orientation.
WHOLE = bytes([0x01, 0, 255, 0, 255])
PART = bytes([0xF2, 64, 160, 96, 200])


def picture(mode, width, height):
    channels = len(mode) if mode in ("RGB", "CMYK", "LA", "RGBA") else 1
    data = bytes((9 * x + 5 * y * (c + 1) + x * y) % 256
                 for y in range(height) for x in range(width) for c in range(channels))
    return data if mode == "raw" else Image.frombytes(mode, (width, height), data)


def jpeg(mode="RGB", width=20, height=18, **options):
    file = io.BytesIO()
    picture(mode, width, height).save(file, "JPEG", **{"quality": 60, **options})
    return file.getvalue()


def make_jpegs():
    exif = Image.Exif()
    exif[0x0112] = 6
    jpegs = {
        "444": jpeg(subsampling=0),
        "420": jpeg(subsampling=2),
        "422-restarts": jpeg(subsampling=1, restart_marker_rows=1),
        "progressive": jpeg(progressive=True),
        "progressive-grey": jpeg("L", progressive=True),
        "grey": jpeg("L"),
        "cmyk": jpeg("CMYK", 12, 10),
        "1x1": jpeg(width=1, height=1),
        "wide": jpeg(width=70, height=3, subsampling=2),
        "exif": jpeg("L", 9, 9, exif=exif.tobytes()),
    }
    for name, data in jpegs.items():
        save("jpeg", name, WHOLE + data)
    save("jpeg", "part", PART + jpegs["420"])
    save("jpeg", "part-progressive", PART + jpegs["progressive"])
    save("jpeg", "part-cmyk", PART + jpegs["cmyk"])
    save("jpeg", "cut", WHOLE + jpegs["444"][:-40])
    save("jpeg", "grey-of-65500", WHOLE + jpegs["grey"].replace(
        struct.pack(">HH", 18, 20), struct.pack(">HH", 900, 65500)))
    # Huffman codes are read as if they were arithmetic ones.
    save("jpeg", "arithmetic", WHOLE + jpegs["444"].replace(b"\xff\xc0", b"\xff\xc9"))
    save("jpeg", "arithmetic-progressive",
         WHOLE + jpegs["progressive"].replace(b"\xff\xc2", b"\xff\xca"))


def png(kind, bits, width, height, rows, interlaced=0, extra=b""):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, interlaced)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def make_pngs():
    def rows(width, height, pixel_bits):
        row_bytes = (width * pixel_bits + 7) // 8
        data = picture("raw", row_bytes, height)
        return b"".join(bytes([y % 5]) + data[y * row_bytes:(y + 1) * row_bytes]
                        for y in range(height))

    palette = bytes(range(48))
    palette = (struct.pack(">I", 48) + b"PLTE" + palette
               + struct.pack(">I", zlib.crc32(b"PLTE" + palette)))
    pngs = {
        "rgb": png(2, 8, 12, 9, rows(12, 9, 24)),
        "rgba": png(6, 8, 7, 9, rows(7, 9, 32)),
        "grey": png(0, 8, 12, 9, rows(12, 9, 8)),
        "grey-alpha-16": png(4, 16, 5, 4, rows(5, 4, 32)),
        "grey-1": png(0, 1, 13, 5, rows(13, 5, 1)),
        "rgb-16": png(2, 16, 6, 6, rows(6, 6, 48)),
        "palette-4": png(3, 4, 9, 5, rows(9, 5, 4), extra=palette),
        # Adam7's passes of 8 x 8 pixels have rows of 1, 1, 2, 2 x 2, 2 x 4, 4 x 4 and 4 x 8.
        "interlaced": png(2, 8, 8, 8, b"".join(
            (b"\0" + bytes(range(3 * width))) * count
            for width, count in [(1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4)]), 1),
        "1x1": png(0, 8, 1, 1, b"\0\x80"),
        "of-800": png(2, 8, 800, 800, bytes(1 << 20), 1),
    }
    for name, data in pngs.items():
        save("png", name, b"\0" + WHOLE + data)
    save("png", "part", b"\0" + PART + pngs["rgb"])
    save("png", "part-interlaced", b"\0" + PART + pngs["interlaced"])
    save("png", "raw", b"\1" + WHOLE + pngs["rgb"])


def make_crops():
    def side(pixels):
        return bytes([13]) + u16(pixels - 1)

    # Geometry in bits 1 and 2 of the flags: square2012, rectangle, squash, random-resized.
    crops, square, whole = range(3)
    colour, rgb, drawn, ten_views, scaled_in_dct = 1, 8, 16, 32, 64
    forms = {
        "square": (colour | rgb | drawn, crops, 500, 375, 256, 224),
        "rectangle": (2 | colour | rgb, crops, 375, 500, 256, 224),
        "squash-ten-views": (4 | colour | rgb | ten_views, crops, 640, 480, 256, 227),
        "random-resized": (6 | colour | rgb | drawn, crops, 300, 301, 256, 224),
        "grey": (drawn | rgb, crops, 333, 77, 64, 28),
        "luma": (colour | drawn, crops, 100, 90, 32, 28),
        "1x1": (2 | colour | rgb, crops, 1, 1, 256, 224),
        "crop-of-1": (6 | drawn | rgb, crops, 17, 9, 1, 1),
        "10000x1": (colour | rgb | drawn, crops, 10000, 1, 256, 224),
        "1x10000": (6 | drawn | colour | rgb, crops, 1, 10000, 256, 224),
        "10000x3000": (2 | rgb, crops, 10000, 3000, 40, 32),
        "statistics": (colour | rgb, square, 400, 300, 256, 1),
        "packing": (colour | rgb, whole, 301, 402, 256, 1),
        "dct": (2 | colour | rgb | drawn | scaled_in_dct, crops, 1600, 1200, 256, 224),
    }
    for name, (flags, planner, width, height, resize, crop) in forms.items():
        save("crop", name, bytes([flags, planner]) + side(width) + side(height) + side(resize)
             + u16(crop - 1) + bytes([7, 3, 5, 0, 200]))


if __name__ == "__main__":
    for make in (make_tars, make_checked, make_plain, make_devkits, make_lists, make_jpegs, make_pngs,
                 make_crops):
        make()
