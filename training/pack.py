"""Rendered pictures as JPEG, small enough to carry to a machine that cannot render.

    python -m training.pack runs/pairs runs/packed             # here: at most 60 MB
    python -m training.pack runs/packed runs/pairs --unpack    # there

Shards are taken evenly from those of one toy and of several, until the size is reached; one shard
gives one zip file, and none is larger than some megabytes. Unpacked they are again what
`training.world.material` writes, at the side of the packed pictures.
"""

import argparse
import io
import json
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FOLDERS = ("toys", "multi")
SIDE, QUALITY = 192, 85  # of a JPEG: DINOv2 sees 168 pixels in most steps, the others fewer
LABELS = "labels.jsonl"
SHAPE = "shape.json"  # of the array before its pictures: (rows, views) or (rows,)


def packed(shard: Path, side: int = SIDE, quality: int = QUALITY) -> bytes:
    """Return a shard and its labels as a zip file of JPEGs."""
    stored = np.load(shard, allow_pickle=False, mmap_mode="r")
    pictures = stored.reshape(-1, *stored.shape[-3:])
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(SHAPE, json.dumps(stored.shape[:-3]))
        archive.write(shard.with_suffix(".jsonl"), LABELS, zipfile.ZIP_DEFLATED)
        for number, picture in enumerate(pictures):
            small = Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS)
            jpeg = io.BytesIO()
            small.save(jpeg, "JPEG", quality=quality)
            archive.writestr(f"{number:05d}.jpg", jpeg.getvalue())
    return target.getvalue()


def unpacked(archive: zipfile.ZipFile) -> NDArray[np.uint8]:
    """Return the pictures of a packed shard, ``(rows, side, side, 3)`` or with views."""
    names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
    pictures = [np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in names]
    shape = json.loads(archive.read(SHAPE))
    stacked = np.stack(pictures)
    return stacked.reshape(*shape, *stacked.shape[1:])


def in_turns(material: Path) -> list[Path]:
    """Return all shards such that each beginning of the list is a fair choice of both kinds."""
    places = []
    for name in FOLDERS:
        shards = sorted((material / name).glob("*.npy"))
        places += [((number + 0.5) / len(shards), shard) for number, shard in enumerate(shards)]
    return [shard for _, shard in sorted(places)]


def pack(material: Path, target: Path, megabytes: float, side: int = SIDE) -> int:
    """Pack shards until they have this size; return the number of pictures.

    Raises:
        FileNotFoundError: There are no shards.
        FileExistsError: The target is there already, with other shards perhaps.
    """
    if target.exists():
        raise FileExistsError(f"{target} is there already, perhaps with other pictures: delete it")
    shards = in_turns(material)
    if not shards:
        raise FileNotFoundError(f"{material} holds no shards: python -m training.world.material")
    target.mkdir(parents=True)
    left, pictures = megabytes * 1e6, 0
    for shard in shards:
        content = packed(shard, side)
        if len(content) > left:
            break
        left -= len(content)
        path = (target / shard.relative_to(material)).with_suffix(".zip")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        pictures += int(np.prod(np.load(shard, mmap_mode="r", allow_pickle=False).shape[:-3]))
    return pictures


def unpack(source: Path, material: Path) -> int:
    """Write the shards that `pack` packed; return the number of pictures.

    Raises:
        FileNotFoundError: There are none.
    """
    paths = sorted(source.glob("*/*.zip"))
    if not paths:
        raise FileNotFoundError(f"{source} holds no packed shards: python -m training.pack")
    number = 0
    for path in paths:
        shard = (material / path.relative_to(source)).with_suffix(".npy")
        shard.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path) as archive:
            pictures = unpacked(archive)
            shard.with_suffix(".jsonl").write_bytes(archive.read(LABELS))
        np.save(shard, pictures)
        number += int(np.prod(pictures.shape[:-3]))
    return number


def main() -> None:
    """Command line: see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--megabytes", type=float, default=60.0, help="largest size in all")
    parser.add_argument("--side", type=int, default=SIDE, help="of the packed pictures, in pixels")
    parser.add_argument("--unpack", action="store_true")
    arguments = parser.parse_args()
    if arguments.unpack:
        number = unpack(arguments.source, arguments.target)
    else:
        number = pack(arguments.source, arguments.target, arguments.megabytes, arguments.side)
    print(f"{number} pictures in {arguments.target}")


if __name__ == "__main__":
    main()
