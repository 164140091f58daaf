"""JPEGs of one colour, written by hand: the smallest files that say of what kind they are."""

import struct

SOI, EOI = b"\xff\xd8", b"\xff\xd9"
ADOBE_PLAIN, ADOBE_YCCK = 0, 2  # what Adobe's marker says of four components


def segment(marker, content):
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def exif(orientation):
    """Returns a segment of Exif that says only how the camera was held."""
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    tiff = b"MM\0*" + struct.pack(">IH", 8, 1) + entry + struct.pack(">I", 0)
    return segment(0xE1, b"Exif\0\0" + tiff)


def adobe(transform):
    return segment(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, transform))


def frame(width, height, components, marker=0xC0, bits=8):
    content = struct.pack(">BHHB", bits, height, width, components)
    return segment(marker, content + b"".join(bytes([i + 1, 0x11, 0]) for i in range(components)))


def tables():
    """Returns tables: quantisation by one; for DC twelve codes of four bits; for AC one code of one
    bit, "nothing more"."""
    dc = bytes([0x00, 0, 0, 0, 12] + [0] * 12) + bytes(range(12))
    ac = bytes([0x10, 1] + [0] * 15) + bytes([0])
    return segment(0xDB, b"\0" + b"\1" * 64) + segment(0xC4, dc) + segment(0xC4, ac)


def scan(components, first, last, bits):
    """Returns a scan over the coefficients `first` to `last`; `bits` is its data, as text."""
    header = bytes([components]) + b"".join(bytes([i + 1, 0]) for i in range(components))
    bits += "1" * (-len(bits) % 8)
    data = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)).replace(b"\xff", b"\xff\0")
    return segment(0xDA, header + bytes([first, last, 0])) + data


def dc_bits(value):
    """Returns the code of a DC difference: its length in four bits, and its bits."""
    length = abs(value).bit_length()
    if length == 0:
        return "0000"
    bits = value if value > 0 else value + (1 << length) - 1
    return f"{length:04b}{bits:0{length}b}"


def flat(values, width=32, height=32, extra=b"", bits=8):
    """Returns a baseline JPEG (extended, if it has 12 bits) whose components have these values."""
    blocks = -(-width // 8) * -(-height // 8)
    middle = 1 << (bits - 1)
    first = "".join(dc_bits(8 * (value - middle)) + "0" for value in values)
    data = first + "00000" * len(values) * (blocks - 1)
    head = frame(width, height, len(values), 0xC0 if bits == 8 else 0xC1, bits)
    return SOI + extra + tables() + head + scan(len(values), 0, 63, data) + EOI


def many_scans(count, width=64, height=64):
    """Returns a progressive grey JPEG with `count` scans that add nothing."""
    blocks = -(-width // 8) * -(-height // 8)
    dc = scan(1, 0, 0, "0000" * blocks)
    return SOI + tables() + frame(width, height, 1, 0xC2) + dc + count * scan(1, 1, 63, "0" * blocks) + EOI


def bomb(width, height):
    """Returns a header that claims so many pixels, with only a few of them."""
    return SOI + tables() + frame(width, height, 3) + scan(3, 0, 63, "00000" * 3) + EOI
