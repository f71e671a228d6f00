"""What the frozen DINOv2 makes of the rendered pictures, computed once and kept on disk.

    python -m training.lit.material --material pairs --out runs/lit/features

DINOv2 does not learn here, so each picture goes through it only twice: in colours and in grey. One
of the two is mirrored, in turn, so that left and right teach nothing. Kept are the class token and
the mean of the patch tokens, which is all that the training reads: 1.5 kB a picture. A shard of
pictures gives one file, written whole or not at all and never twice; the same command, started
again, computes what is missing.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import Tensor
from tqdm import tqdm

from dinov2_helpers import extract_features, load_dinov2
from dinov2_helpers.lit import sha256_of_weights
from dinov2_helpers.samples import data_dir
from training.captions import Facts, mirrored
from training.world.scene import FRAME

DINOV2 = "dinov2-tiny"  # the folder below `data/models` of the model that it stands on
FOLDERS = ("toys", "multi")
COLOURED, GREY = 0, 1  # the two forms of a picture
STANDS_ON = "stands_on"  # key of the metadata of each file: the SHA-256 of DINOv2's weights


def is_mirrored(number: int, form: int) -> bool:
    """Say whether this form of the picture of this number in its shard is mirrored."""
    return number % 2 != form


def forms(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the two forms of pictures ``(n, h, w, 3)``, as ``(n, 2, h, w, 3)`` uint8."""
    mean = np.rint(pictures.mean(-1, keepdims=True)).astype(np.uint8)
    shown = np.stack([pictures, np.broadcast_to(mean, pictures.shape)], 1)
    for form in (COLOURED, GREY):
        mirrored = [number for number in range(len(shown)) if is_mirrored(number, form)]
        shown[mirrored, form] = shown[mirrored, form, :, ::-1]
    return shown


def describe(dinov2: Any, pictures: Sequence[Any] | NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return class token and mean patch, ``(n, 2 * dim)``, as `dinov2_helpers.lit` reads them.

    Raises:
        ValueError: One of the pictures could not be read.
    """
    found = extract_features(dinov2, list(pictures), progress=False)
    if len(found) != len(pictures):
        raise ValueError(f"{len(found.skipped)} pictures could not be read: {found.skipped[0]}")
    return np.concatenate([found.pooled("cls"), found.pooled("mean")], 1)


def shard_paths(folder: Path, suffix: str, limit: int | None = None) -> list[Path]:
    """Return the shards, by number: those of one toy and of several take turns."""
    paths = [path for name in FOLDERS for path in sorted((folder / name).glob(suffix))[:limit]]
    return sorted(paths, key=lambda path: path.stem)


def describe_shard(dinov2: Any, stands_on: str, shard: Path, target: Path) -> None:
    """Write what DINOv2 makes of the pictures of a shard: ``(n, 2, 2 * dim)`` float16."""
    stored = np.load(shard, allow_pickle=False)
    pictures = stored.reshape(-1, *stored.shape[-3:])
    shown = forms(pictures)
    features = describe(dinov2, shown.reshape(-1, *pictures.shape[1:])).reshape(
        *shown.shape[:2], -1
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(".tmp")
    save_file({"features": features.astype(np.float16)}, temporary, {STANDS_ON: stands_on})
    temporary.replace(target)


def read_shard(path: Path, stands_on: str) -> Tensor:
    """Read what `describe_shard` wrote.

    Raises:
        ValueError: It was computed with other weights.
    """
    with safe_open(path, "pt") as file:
        if file.metadata()[STANDS_ON] != stands_on:
            raise ValueError(f"{path} comes from another DINOv2. Delete {path.parent.parent}")
        return file.get_tensor("features")


def read_facts(shard: Path) -> Iterator[dict[str, Any]]:
    """Yield what is known of each picture of a shard."""
    lines = shard.with_suffix(".jsonl").read_text(encoding="utf-8").splitlines()
    for row in map(json.loads, lines):
        yield from row.get("views", [row])


class Described:
    """Pictures as DINOv2 sees them, and the facts from which their captions are written.

    Args:
        material: Folder written by `training.world.material`.
        features: Folder written by this module.
        stands_on: SHA-256 of the weights of DINOv2.
        limit: Largest number of shards to read from each of the two folders, or None for all.

    Attributes:
        features: ``(n, 2, 2 * dim)`` float16: of each picture in colours and in grey.
        facts: Two mappings per picture, in the same order; of a mirrored form, the mirror image's.

    Raises:
        FileNotFoundError: Nothing was computed yet.
        ValueError: It was computed with other weights.
    """

    def __init__(
        self, material: Path, features: Path, stands_on: str, limit: int | None = None
    ) -> None:
        parts: list[Tensor] = []
        self.facts: list[tuple[Facts, Facts]] = []
        for path in shard_paths(features, "*.safetensors", limit):
            parts.append(read_shard(path, stands_on))
            for number, shown in enumerate(read_facts(material / path.relative_to(features))):
                both = (shown, mirrored(shown, FRAME))
                coloured = both[is_mirrored(number, COLOURED)]
                grey = both[is_mirrored(number, GREY)]
                self.facts.append((coloured, grey))
        if not parts:
            raise FileNotFoundError(
                f"{features} is empty. First run python -m training.lit.material "
                f"--material {material} --out {features}"
            )
        self.features = torch.cat(parts)

    def __len__(self) -> int:
        return len(self.facts)


def main() -> None:
    """Command line: see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--material", type=Path, default=Path("pairs"))
    parser.add_argument("--out", type=Path, default=Path("runs/lit/features"))
    parser.add_argument("--dinov2", type=Path, default=data_dir() / "models" / DINOV2)
    parser.add_argument("--limit", type=int, help="largest number of shards of each kind")
    arguments = parser.parse_args()
    dinov2 = load_dinov2(arguments.dinov2)
    stands_on = sha256_of_weights(arguments.dinov2)
    for shard in tqdm(shard_paths(arguments.material, "*.npy", arguments.limit), unit="shard"):
        target = (arguments.out / shard.relative_to(arguments.material)).with_suffix(".safetensors")
        if not target.exists():
            describe_shard(dinov2, stands_on, shard, target)


if __name__ == "__main__":
    main()
