"""Teach the text tower's names to single patches, so that places in a picture can be named.

    python -m training.lit.places --material pairs --model runs/lit/model --out runs/lit/places

comes after `training.lit.train` and adds a head to the folder that it wrote. Text tower and DINOv2
stay as they are. No mask is read: a caption's toy is somewhere in its picture, and the patches that
are most like its name are taken for it (patch-aligned contrastive learning: Mukhoti et al. 2022,
arXiv 2212.04994, section 3.2). The head of the whole picture cannot do this, for it never saw a
patch: its answer on single patches is no better than chance. The class token takes no part, for
with it every patch could be named as the whole picture is.

The features of all patches would fill a disk (100 kB a picture), so those of some thousand pictures
are computed, once, and kept in ``--out``.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from dinov2_helpers import extract_features
from dinov2_helpers.lit import PLACES, WEIGHTS, Lit, load_lit
from dinov2_helpers.samples import CLASS_NAMES, Scenes, load_scenes
from training.captions import WRITERS, Facts, Toy
from training.command_line import write_log
from training.dinov2.model import cosine
from training.lit.config import RECIPES, Recipe
from training.lit.evaluate import place_hits
from training.lit.material import read_facts, shard_paths
from training.lit.model import Head
from training.lit.questions import LANGUAGES, photo_of

EVERY = 13  # of the shards, one in this many is read
LEARNING_RATE, WEIGHT_DECAY, WARMUP = 1e-3, 0.05, 30


def keep_patches(lit: Lit, material: Path, out: Path, every: int = EVERY) -> None:
    """Write the patches of some of the pictures, and their facts, unless they are there.

    ``patches.npy`` is ``(n, h * w, dim)`` float16; ``facts.jsonl`` has a line for each.
    """
    kept = out / "patches.npy"
    if kept.exists():
        return
    out.mkdir(parents=True, exist_ok=True)
    parts, facts = [], []
    for shard in tqdm(shard_paths(material, "*.npy")[::every], unit="shard"):
        stored = np.load(shard, allow_pickle=False)
        pictures = stored.reshape(-1, *stored.shape[-3:])
        found = extract_features(lit.dinov2, list(pictures), progress=False)
        patches = np.asarray(found.patches, np.float16)
        parts.append(patches.reshape(len(pictures), -1, patches.shape[-1]))
        facts += list(read_facts(shard))
    lines = "".join(json.dumps(one) + "\n" for one in facts)
    (out / "facts.jsonl").write_text(lines, encoding="utf-8")
    temporary = kept.with_suffix(".tmp")
    with temporary.open("wb") as file:
        np.save(file, np.concatenate(parts))
    temporary.replace(kept)


def shows(facts: Facts, asked: Toy) -> bool:
    """Say whether a picture shows a toy of this class and, if it is told, this colour."""
    name, colour = asked
    return any(one["class"] == name and colour in (None, one["colour"]) for one in facts["objects"])


def place_loss(patches: Tensor, texts: Tensor, true: Tensor, sharpness: float) -> Tensor:
    """Contrast pictures with texts by the patches that are most like each text.

    Args:
        patches: Unit vectors ``(n, p, dim)``.
        texts: Unit vectors ``(m, dim)``.
        true: Whether a text is true of a picture, ``(n, m)``; every text of one, and every picture
            has a text.
        sharpness: Factor on the cosines.
    """
    cosines = torch.einsum("npd,md->npm", patches, texts)
    weights = (sharpness * cosines).softmax(1)  # which patches a text is about
    logits = sharpness * (weights * cosines).sum(1)  # (n, m)
    targets = true.float()
    losses = [
        -(wanted / wanted.sum(1, keepdim=True) * scores.log_softmax(1)).sum(1).mean()
        for wanted, scores in ((targets, logits), (targets.T, logits.T))
    ]
    return torch.stack(losses).mean()


class PlaceTraining:
    """One run of the head for patches.

    Args:
        recipe: Every number of the run.
        lit: Whose text tower is learned from.
        patches: ``(n, p, dim)`` float16, in memory or mapped from a file.
        facts: One mapping per picture.
    """

    def __init__(
        self, recipe: Recipe, lit: Lit, patches: NDArray[np.float16], facts: list[Facts]
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.lit, self.patches, self.facts = recipe, lit, patches, facts
        some = np.asarray(patches[:: max(1, len(patches) // 200)], np.float32)
        shown = torch.from_numpy(some).flatten(0, 1)
        self.head = Head(shown, lit.dim, recipe.hidden).to(lit.dinov2.device)
        self.optimiser = torch.optim.AdamW(
            self.head.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY
        )
        self.step = 0

    def draw(self) -> tuple[Tensor, list[str], Tensor]:
        """Draw patches ``(n, p, dim)``, n names of toys, and which are true of which picture."""
        rng = np.random.default_rng((self.recipe.seed, self.step))
        n = min(self.recipe.place_batch, len(self.facts))
        rows = np.sort(rng.choice(len(self.facts), n, replace=False))
        writers = [kind(rng) for kind in WRITERS.values()]
        asked: list[Toy] = []
        texts: list[str] = []
        for row in rows:
            objects = self.facts[row]["objects"]
            one = objects[rng.integers(len(objects))]
            told = rng.random() < self.recipe.place_colour
            toy = (one["class"], one["colour"] if told else None)
            writer = writers[rng.integers(len(writers))]
            asked.append(toy)
            texts.append(writer.naming(*toy))
        true = [[shows(self.facts[row], toy) for toy in asked] for row in rows]
        patches = torch.from_numpy(np.asarray(self.patches[rows], np.float32))
        return patches, texts, torch.tensor(true)

    def train_step(self) -> float:
        """Take one step; return its loss."""
        recipe = self.recipe
        warm = min(1.0, (self.step + 1) / WARMUP)
        rate = LEARNING_RATE * warm * cosine(1.0, 0.0, self.step / recipe.place_steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        patches, texts, true = self.draw()
        device = self.lit.dinov2.device
        vectors = torch.from_numpy(self.lit.embed_texts(texts)).to(device)
        found = self.head(patches.to(device))
        loss = place_loss(found, vectors, true.to(device), recipe.sharpness)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.step += 1
        return loss.item()

    def learned(self) -> Lit:
        """Return the text tower with the head as it is now."""
        weights = {name: tensor.detach().clone() for name, tensor in self.head.state_dict().items()}
        return dataclasses.replace(self.lit, places=weights)


def score(lit: Lit, scenes: Scenes) -> dict[str, float]:
    """Score names of places on scenes of several toys, by language."""
    patches = np.asarray(lit.embed_patches(scenes, progress=False))
    scores: dict[str, float] = {}
    for language in LANGUAGES:
        texts = lit.embed_texts([photo_of(name, language) for name in CLASS_NAMES])
        for name, hits in place_hits(patches, scenes, lit.dinov2.patch_size, texts).items():
            scores[f"{name}_{language}"] = round(float(hits.mean()), 4)
    return scores


def add_to(folder: Path, head: Head) -> None:
    """Write the head into the weights of a folder, in half precision; the rest stays."""
    weights = load_file(folder / WEIGHTS)
    new = {PLACES + name: tensor.half().cpu() for name, tensor in head.state_dict().items()}
    temporary = folder / "model.tmp"
    save_file(weights | new, temporary, {"format": "pt"})
    temporary.replace(folder / WEIGHTS)


def main() -> None:
    """Command line: see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--material", type=Path, default=Path("pairs"))
    parser.add_argument("--model", type=Path, default=Path("runs/lit/model"))
    parser.add_argument("--out", type=Path, default=Path("runs/lit/places"))
    parser.add_argument("--recipe", choices=tuple(RECIPES), default="cpu")
    parser.add_argument("--log-every", type=int, default=100)
    arguments = parser.parse_args()
    recipe = RECIPES[arguments.recipe]
    lit = load_lit(arguments.model)
    keep_patches(lit, arguments.material, arguments.out)
    lines = (arguments.out / "facts.jsonl").read_text(encoding="utf-8").splitlines()
    patches = np.load(arguments.out / "patches.npy", mmap_mode="r", allow_pickle=False)
    training = PlaceTraining(recipe, lit, patches, list(map(json.loads, lines)))
    watched = load_scenes("train").select(n_objects=[2, 3])

    def entries() -> Any:
        while training.step < recipe.place_steps:
            loss = training.train_step()
            if training.step % arguments.log_every == 0:
                entry = {"step": training.step, "loss": round(loss, 4)}
                yield entry | score(training.learned(), watched)

    write_log(arguments.out, entries())
    add_to(arguments.model, training.head)


if __name__ == "__main__":
    main()
