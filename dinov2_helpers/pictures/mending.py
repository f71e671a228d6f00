"""Files whose pixels are whole, and what stands beside them is not: the same, so that Pillow reads.

Pillow tries once for pixels and metadata, and so loses the former for a fault in the latter.
"""

import io
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image

_PNG = b"\x89PNG\r\n\x1a\n"
# what pixels, colours, orientation and animation need; texts, times and profiles are left behind
_PNG_NEEDS = {
    *(b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"eXIf"),
    *(b"acTL", b"fcTL", b"fdAT"),
}
_JPEG, _END_OF_JPEG = b"\xff\xd8", b"\xff\xd9"
_START_OF_SCAN, _EXIF, _PROFILE, _ADOBE, _COMMENT = 0xDA, 0xE1, 0xE2, 0xEE, 0xFE
_APPLICATIONS = range(0xE0, 0xF0)
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # without tables, and what is reserved
# not what stands among the numbers of a scan: a stuffed or filling 0xFF, and a restart
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])", re.DOTALL)
_PROFILE_STARTS, _ADOBE_STARTS = b"ICC_PROFILE\0", b"Adobe"
# Bytes that no JPEG ends with, long enough to fill up any block of it, and unlike each other.
_FILLERS = (b"\0" * 64, b"\x55" * 64)


class Mended(NamedTuple):
    """A file that can be read, and what was done to it."""

    data: bytes
    note: str


def mended(data: bytes) -> Mended | None:
    """Return a file without the fault that does not touch its pixels; None if that is not so."""
    if data.startswith(_PNG):
        lean = _png_without_metadata(data)
        return Mended(lean, "read without its metadata, which cannot be") if lean != data else None
    if data.startswith(_JPEG):
        lean = _jpeg_without_metadata(data)
        if lean != data and _opens(lean):
            return Mended(lean, "read without its metadata, which cannot be")
        if _all_scans_are_there(lean) and _all_rows_are_there(lean):
            return Mended(lean + _END_OF_JPEG, "its last bytes are missing, but no pixel")
    return None


def _png_without_metadata(data: bytes) -> bytes:
    kept = [_PNG]
    at = len(_PNG)
    while at + 8 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        end = at + 12 + length
        if data[at + 4 : at + 8] in _PNG_NEEDS:
            kept.append(data[at:end])
        at = end
    return b"".join(kept)


def _jpeg_without_metadata(data: bytes) -> bytes:
    """Leave out what applications add, but for EXIF, and whole profiles and notes on colour."""
    kept = [_JPEG]
    rest = len(_JPEG)
    for marker, start, end in _segments(data):
        body = data[start + 4 : end]
        needed = marker not in _APPLICATIONS and marker != _COMMENT
        profile = body.startswith(_PROFILE_STARTS) and len(body) > len(_PROFILE_STARTS) + 2
        colours = body.startswith(_ADOBE_STARTS) and len(body) >= 12
        useful = {_EXIF: True, _PROFILE: profile, _ADOBE: colours}
        if needed or useful.get(marker, False):
            kept.append(data[start:end])
        rest = end
    return b"".join([*kept, data[rest:]])


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment before the pixels."""
    at = len(_JPEG)
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != _START_OF_SCAN:
        (length,) = struct.unpack(">H", data[at + 2 : at + 4])
        yield data[at + 1], at, at + 2 + length
        at += 2 + length


def _opens(data: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            image.load()
    except MemoryError:
        raise
    except Exception:  # of whatever type: the file stays as bad as it was
        return False
    return True


def _all_scans_are_there(data: bytes) -> bool:
    """Say whether the scans of a JPEG hold all 64 coefficients of each component to the last bit.

    A progressive file has many scans, and others may have one for each component. libjpeg shows
    without a word what those before the cut tell: a picture that is coarse, or grey.
    """
    wanted, found = set[tuple[int, int]](), set[tuple[int, int]]()
    for marker, body in _segments_among_scans(data):
        if marker in _FRAMES:
            wanted = {(component, k) for component in body[6::3] for k in range(64)}
        if marker == _START_OF_SCAN and len(body) >= 6:
            first, last, missing_bits = body[-3], body[-2], body[-1] & 0x0F
            if missing_bits == 0:
                coefficients = range(first, last + 1)
                found |= {(component, k) for component in body[1:-3:2] for k in coefficients}
    return bool(wanted) and wanted <= found


def _segments_among_scans(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and content of each whole segment, those behind the first pixels too."""
    at = len(_JPEG)
    while (marker := _MARKER.search(data, at)) and marker[0] != _END_OF_JPEG:
        start = marker.end()
        at = start + int.from_bytes(data[start : start + 2], "big")
        if at <= len(data):
            yield marker[1][0], data[start + 2 : at]


def _all_rows_are_there(data: bytes) -> bool:
    """Say whether the last scan of a JPEG that ends early ends after its pixels.

    Whatever follows the last block is passed over; but where blocks are missing, it is taken for
    them. So the picture is whole if it is the same with one filler behind it as with another.
    """
    found = set[bytes]()
    for filler in _FILLERS:
        # a lone 0xFF would make a marker of the filler
        whole = data.rstrip(b"\xff") + filler + _END_OF_JPEG
        try:
            with Image.open(io.BytesIO(whole), formats=("JPEG",)) as image:
                found.add(image.tobytes())
        except MemoryError:
            raise
        except Exception:
            return False
    return len(found) == 1
