"""The rendered pictures at the size of this model, and captions of what they show."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.captions import FAR, EnglishWriter, mirrored
from training.clip.evaluate import with_colour
from training.clip.material import Pairs
from training.world.captions import PLACES, article
from training.world.scene import FRAME

Facts = Mapping[str, Any]  # as `training.world.material` writes them
KINDS = ("portrait", "wide", "multi")
# Shares of the captions of one toy that say all there is to say, and that name the class alone,
# both in the same words; the rest is in the words of `training.captions`.
WHOLE, CLASS_ALONE = 0.4, 0.4


def shrink(pictures: Tensor, side: int) -> Tensor:
    """Return pictures ``(n, 3, h, w)`` uint8 at ``side`` pixels, without aliasing."""
    parts = [
        F.interpolate(part.float(), size=side, mode="bilinear", antialias=True)
        for part in pictures.split(256)
    ]
    return torch.cat(parts).round_().clamp_(0, 255).byte()


def kind(facts: Facts) -> str:
    """Return "portrait" or "wide" for a picture of one toy, "multi" for one of several."""
    return facts["framing"] if len(facts["objects"]) == 1 else "multi"


def statement(facts: Facts) -> str:
    """Say class, colour and surface of a picture of one toy, as "a photo of a red car on sand"."""
    toy = facts["objects"][0]
    what = with_colour(toy["class"], toy["colour"])
    text = f"a photo of {what}" if kind(facts) == "portrait" else FAR.format(what)
    return f"{text} {'flying over' if toy['flying'] else 'on'} {PLACES[facts['surface']][0]}"


def class_alone(facts: Facts) -> str:
    """Name the class of a picture of one toy, as "a photo of a car"."""
    what = article(facts["objects"][0]["class"])
    return f"a photo of {what}" if kind(facts) == "portrait" else FAR.format(what)


def caption(writer: EnglishWriter, facts: Facts) -> str:
    """Write a caption; one of a toy far away always says so, that the others mean near ones."""
    shown = kind(facts)
    if shown == "multi" or (shown == "portrait" and not writer.chance(WHOLE + CLASS_ALONE)):
        return writer.caption(facts)
    whole = writer.chance(WHOLE / (WHOLE + CLASS_ALONE))
    return statement(facts) if whole else class_alone(facts)


class Material:
    """Training pictures and their facts.

    Args:
        pictures: ``(n, 3, side, side)`` uint8, on the training device.
        facts: One mapping for each.
        shares: How often portraits and wide pictures of one toy are drawn; the rest is of several.
    """

    def __init__(
        self, pictures: Tensor, facts: Sequence[Facts], shares: tuple[float, float] = (0.9, 0.05)
    ) -> None:
        self.pictures, self.facts = pictures, list(facts)
        self.shares = (*shares, 1 - sum(shares))
        kinds = np.array([kind(one) for one in self.facts])
        self.rows = [np.flatnonzero(kinds == name) for name in KINDS]

    def __len__(self) -> int:
        return len(self.pictures)

    @classmethod
    def load(
        cls, folder: Path, cache: Path, side: int, device: torch.device, limit: int | None = None
    ) -> "Material":
        """Read the shards in ``folder``, once: what they give is kept in ``cache``.

        FileNotFoundError: There are no shards.
        """
        kept, lines = cache / "pictures.npy", cache / "pictures.jsonl"
        if not kept.exists():
            pairs = Pairs(folder, torch.device("cpu"), limit)
            cache.mkdir(parents=True, exist_ok=True)
            lines.write_text("".join(json.dumps(f) + "\n" for f in pairs.facts), encoding="utf-8")
            with (temporary := kept.with_suffix(".tmp")).open("wb") as file:
                np.save(file, shrink(pairs.pictures, side).numpy())
            temporary.replace(kept)
        pictures = torch.from_numpy(np.load(kept, allow_pickle=False)).to(device)
        return cls(pictures, list(map(json.loads, lines.read_text("utf-8").splitlines())))

    def draw(self, rng: np.random.Generator, n: int) -> tuple[Tensor, list[Facts]]:
        """Draw n pictures ``(n, 3, side, side)`` uint8 and their facts, half of them mirrored."""
        counts = rng.multinomial(n, self.shares)
        groups = zip(self.rows, counts, strict=True)
        rows = np.concatenate([rng.choice(group, count) for group, count in groups])
        flip = rng.random(n) < 0.5
        drawn = self.pictures[torch.from_numpy(rows).to(self.pictures.device)]
        mask = torch.from_numpy(flip).to(drawn.device).view(-1, 1, 1, 1)
        facts = [self.facts[row] for row in rows]
        facts = [mirrored(f, FRAME) if m else f for f, m in zip(facts, flip, strict=True)]
        return torch.where(mask, drawn.flip(-1), drawn), facts
