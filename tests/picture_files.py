"""Files of pictures made by numbers, with faults and statements that Pillow does not write."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

PNG = b"\x89PNG\r\n\x1a\n"
# primaries and white at D50 as XYZ, of Display P3 and of Adobe RGB, as their profiles have them
P3 = ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407))
ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.7141))


def encoded(image, kind, **options):
    """The bytes of a file."""
    image.save(file := io.BytesIO(), kind, **options)
    return file.getvalue()


def noise(width=80, height=60, seed=0, mode="RGB"):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values).convert(mode)


def write_notable(folder, image):
    """Write two pictures of which something is to be said, and two files that give none."""
    grey = np.asarray(image.convert("L"), np.uint16) * 16  # of a camera of 12 bits
    Image.fromarray(grey).save(folder / "dark.png")
    flat = [Image.new("L", image.size, value) for value in (50, 200)]
    flat[0].save(folder / "moving.gif", save_all=True, append_images=flat[1:])
    (folder / "bad.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no picture either", encoding="utf-8")


NOTABLE = (
    "1 left out: 1 of a kind that is not read, .txt (notes.txt)",
    "The first frame was taken of 1 with several: moving.gif",
    "1 pictures with more than 8 bits use",
)


def chunk(kind, body):
    check = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)


def with_chunk(kind, body, image=None):
    """A PNG with a chunk behind its header."""
    data = encoded(image or noise(), "PNG")
    return data[:33] + chunk(kind, body) + data[33:]


def png_of_16_bits(values, transparent=None):
    """A PNG of 16 bits a value from an array (H, W, channels)."""
    height, width, channels = values.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    clear = b"" if transparent is None else chunk(b"tRNS", struct.pack(">3H", *transparent))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    pixels = chunk(b"IDAT", zlib.compress(rows))
    return PNG + chunk(b"IHDR", header) + clear + pixels + chunk(b"IEND", b"")


def tiff(values, photometric=1, bits=None, order="<", extra=()):
    """An uncompressed TIFF of one value a pixel; photometric 0: 0 is white, 1: 0 is black."""
    height, width = values.shape
    kind = values.dtype
    raw = values.astype(kind.newbyteorder(order)).tobytes()
    if bits == 12:
        digits = "".join(f"{value:012b}" for value in values.ravel())
        raw = int(digits, 2).to_bytes(len(digits) // 8, "big")
    sample_format = {"u": 1, "i": 2, "f": 3}[kind.kind]
    tags = [
        *((256, width), (257, height), (258, bits or 8 * kind.itemsize), (259, 1)),
        *((262, photometric), (273, 8), (277, 1), (278, height), (279, len(raw))),
        *((339, sample_format), *extra),
    ]
    start = b"II*\0" if order == "<" else b"MM\0*"
    entries = b""
    for tag, value in sorted(tags):
        wide = tag in (256, 257, 273, 278, 279) or value > 65535
        body = struct.pack(
            f"{order}I" if wide else f"{order}HH", *([value] if wide else [value, 0])
        )
        entries += struct.pack(f"{order}HHI", tag, 4 if wide else 3, 1) + body
    raw += b"\0" * (len(raw) % 2)
    table = struct.pack(f"{order}H", len(tags)) + entries + b"\0" * 4
    return start + struct.pack(f"{order}I", 8 + len(raw)) + raw + table


def profile(primaries=P3, gamma=2.2, space=b"RGB "):
    """An ICC profile of primaries and a gamma, or of a gamma alone for b"GRAY"."""

    def fixed(value):
        return struct.pack(">i", round(value * 65536))

    def xyz(values):
        return b"XYZ \0\0\0\0" + b"".join(map(fixed, values))

    white = (0.9642, 1, 0.8249)  # D50, as every profile has it
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    text = "x".encode("utf-16-be")
    text = b"mluc\0\0\0\0" + struct.pack(">IIHHII", 1, 12, 0x656E, 0x5553, len(text), 28) + text
    tags = {b"desc": text, b"cprt": text, b"wtpt": xyz(white)}
    if space == b"GRAY":
        tags[b"kTRC"] = curve
    else:
        for letter, values in zip(b"rgb", primaries, strict=True):
            tags[bytes([letter]) + b"XYZ"] = xyz(values)
            tags[bytes([letter]) + b"TRC"] = curve
    table, body = b"", b""
    start = 132 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">II", start + len(body), len(value))
        body += value + b"\0" * (-len(value) % 4)
    body = struct.pack(">I", len(tags)) + table + body
    head = struct.pack(">I", 128 + len(body)) + b"\0" * 4 + struct.pack(">I", 0x4200000)
    head += b"mntr" + space + b"XYZ " + b"\0" * 12 + b"acsp" + b"\0" * 28
    return head + b"".join(map(fixed, white)) + b"\0" * 48 + body
