"""Captions for training: many ways to say what a picture shows, none of them complete.

The captions of the sample data come from `training.world.captions`; these here are looser, with
synonyms, counts, relations and things left unsaid, as people's captions are.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from training.world.captions import NOUNS, NUMBERS, PLACES, article
from training.world.colours import COLOURS

Facts = Mapping[str, Any]  # as `training.world.material` writes them

SYNONYMS = {
    "dog": "puppy",
    "cat": "kitten",
    "car": "automobile",
    "truck": "lorry",
    "airplane": "plane",
    "boat": "ship",
    "rocket": "spaceship",
    "house": "building",
    "mushroom": "toadstool",
    "mug": "cup",
}
OTHER_COLOURS = {"gray": "grey", "purple": "violet"}
OTHER_PLACES = {
    "grass": "a lawn",
    "sand": "a beach",
    "road": "a street",
    "water": "a lake",
    "wood": "wood",
    "tiles": "tiles",
    "carpet": "a rug",
}
PREFIXES = (
    "{}",
    "a photo of {}",
    "a picture of {}",
    "an image of {}",
    "a render of {}",
    "this is {}",
    "there is {}",
    "a toy scene with {}",
)
CLOSE, FAR = "a close-up of {}", "{} seen from afar"
COLOUR, PLACE, SYNONYM, RELATION, DISTANCE = 0.85, 0.7, 0.15, 0.4, 0.08  # how often each is said


class Writer:
    """Writes captions; the same generator state gives the same caption.

    Args:
        rng: Source of every choice.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def chance(self, probability: float) -> bool:
        """Return True this often."""
        return bool(self.rng.random() < probability)

    def pick(self, options: Sequence[str]) -> str:
        """Return one of the options."""
        return options[int(self.rng.integers(len(options)))]

    def toy(self, name: str, colour: str | None, number: int = 1) -> str:
        """Name one toy, or several alike, with or without their colour."""
        singular, plural = NOUNS[name][:2]
        if name in SYNONYMS and self.chance(SYNONYM):
            singular = SYNONYMS[name]
            plural = "lorries" if singular == "lorry" else f"{singular}s"
        if colour and self.chance(SYNONYM):
            colour = OTHER_COLOURS.get(colour, colour)
        count = NUMBERS[number][0]
        if name == "snowman" and colour:  # its colour is its scarf's
            scarf = f"with {article(colour)} scarf" if number == 1 else f"with {colour} scarves"
            return f"{article(singular) if number == 1 else f'{count} {plural}'} {scarf}"
        words = [colour] if colour else []
        if number > 1:
            return " ".join([count, *words, plural])
        return article(" ".join([*words, singular]))

    def toys(self, objects: Sequence[Facts], grey: bool) -> str:
        """Name the toys of a picture, given from left to right; no colours of a grey one."""
        said = self.chance(COLOUR) and not grey
        colours = [one["colour"] if said else None for one in objects]
        names = [one["class"] for one in objects]
        if len(objects) == 2 and len(set(names)) == 2 and self.chance(RELATION):
            left, right = (self.toy(*toy) for toy in zip(names, colours, strict=True))
            if self.chance(0.5):
                return f"{left} to the left of {right}"
            return f"{right} to the right of {left}"
        counts: dict[tuple[str, str | None], int] = {}
        for pair in zip(names, colours, strict=True):
            counts[pair] = counts.get(pair, 0) + 1
        *most, last = (self.toy(*pair, number) for pair, number in counts.items())
        return f"{', '.join(most)} and {last}" if most else last

    def caption(self, facts: Facts, grey: bool = False) -> str:
        """Write one English caption in lower case, without colours for a grey picture."""
        objects = facts["objects"]
        text = self.toys(objects, grey)
        surface = facts["surface"]
        place = PLACES[surface][0]
        if surface in OTHER_PLACES and self.chance(SYNONYM):
            place = OTHER_PLACES[surface]
        flies = len(objects) == 1 and objects[0]["flying"]
        single = len(objects) == 1
        if single and self.chance(DISTANCE):
            text = (CLOSE if facts["framing"] == "portrait" else FAR).format(text)
        else:
            text = self.pick(PREFIXES).format(text)
        if not self.chance(PLACE):
            return text
        if self.chance(0.1):
            return f"{'over' if flies else 'on'} {place}: {text}"
        return f"{text} {'flying over' if flies else 'on'} {place}"


def mirrored(facts: Facts, width: int) -> Facts:
    """Return the facts of the mirror image of a picture ``width`` pixels wide."""
    objects = [{**one, "x": width - one["x"]} for one in reversed(facts["objects"])]
    return {**facts, "objects": objects}


def vocabulary() -> Iterator[str]:
    """Yield every word and sign that a caption can hold."""
    phrases: list[Iterable[str]] = [
        *(noun[:2] for noun in NOUNS.values()),
        SYNONYMS.values(),
        COLOURS,
        OTHER_COLOURS.values(),
        (place[0] for place in PLACES.values()),
        OTHER_PLACES.values(),
        (number[0] for number in NUMBERS.values()),
        (prefix.format("") for prefix in (*PREFIXES, CLOSE, FAR)),
        ("lorries with scarf scarves to the left right of flying over on and an a : , .",),
    ]
    for group in phrases:
        for phrase in group:
            yield from re.findall(r"[a-z]+|[^a-z\s]", phrase)
