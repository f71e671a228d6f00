"""Captions for training, in English and Chinese: many ways to say what a picture shows.

The captions of the sample data come from `training.world.captions`; these here are looser, with
synonyms, counts, relations and things left unsaid, as people's captions are. A picture is as often
named by its class alone ("dog", "a photo of a dog") as with colour and ground. Where colours are
told, they are told of every toy.

Some wording of the sample data is never used here, so that it can be asked what a model makes of
words in an order that it has not read: `UNSEEN` has the templates. Nor does a caption ever list
colours in brackets ("two dogs (one red, one white)"), as the sample data do.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from training.world.captions import COLOURS_ZH, NOUNS, NUMBERS, PLACES, article
from training.world.colours import COLOURS

Facts = Mapping[str, Any]  # as `training.world.material` writes them
Language = Literal["en", "zh"]
Toy = tuple[str, str | None]  # class, and colour if it is told

UNSEEN = {
    "en": (
        "on {place}: {toys}",
        "a render of {toys} on {place}",
        "{toys} lifting off from {place}",
    ),
    "zh": ("图中{place}上有{toys}", "{place}上的{toys}", "{toys}正从{place}上升空"),
}

SYNONYM = 0.2  # how often another word is taken for a thing, a colour or a ground
FAR = "{} seen from afar"
RELATION = 0.4  # how often two toys are placed left and right of each other
DISTANCE = 0.08  # how often a toy is said to be near or far
#: What is told of one toy beside its class, and how often.
TOLD = {(False, False): 0.35, (True, False): 0.15, (False, True): 0.15, (True, True): 0.35}
#: The same of several toys, which their classes alone seldom tell apart.
TOLD_OF_SEVERAL = {(False, False): 0.1, (True, False): 0.15, (False, True): 0.15, (True, True): 0.6}


@dataclass(frozen=True)
class Told:
    """What a caption tells beside classes and numbers."""

    colours: bool
    place: bool


class Writer:
    """Writes captions; the same generator state gives the same caption.

    Args:
        rng: Source of every choice.
    """

    language: ClassVar[Language]

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def chance(self, probability: float) -> bool:
        """Return True this often."""
        return bool(self.rng.random() < probability)

    def pick(self, options: Sequence[str]) -> str:
        """Return one of the options."""
        return options[int(self.rng.integers(len(options)))]

    def word(self, usual: str, others: Mapping[str, Sequence[str]]) -> str:
        """Return the usual word or, now and then, another for the same."""
        if usual in others and self.chance(SYNONYM):
            return self.pick(others[usual])
        return usual

    def told(self, facts: Facts, grey: bool) -> Told:
        """Choose what to tell of a picture; of a grey one, no colours."""
        shares = TOLD if len(facts["objects"]) == 1 else TOLD_OF_SEVERAL
        chosen = self.rng.choice(len(shares), p=list(shares.values()))
        colours, place = list(shares)[chosen]
        return Told(colours and not grey, place)

    def caption(self, facts: Facts, grey: bool = False) -> str:
        """Write one caption, without colours for a grey picture.

        Args:
            facts: Class, colour and place of each toy, from left to right, and the ground.
            grey: Whether the picture is shown without colours.
        """
        told = self.told(facts, grey)
        toys = [(one["class"], one["colour"] if told.colours else None) for one in facts["objects"]]
        text = self.toys(toys)
        near = self.distance(facts["framing"], text)
        if len(toys) == 1 and near and self.chance(DISTANCE):
            text = near
        if not told.place:
            return self.alone(text)
        flies = len(toys) == 1 and facts["objects"][0]["flying"]
        return self.somewhere(text, facts["surface"], flies)

    def toys(self, toys: Sequence[Toy]) -> str:
        """Name the toys of a picture, given from left to right."""
        if len(toys) == 1:
            return self.single(*toys[0])
        if len(toys) == 2 and toys[0] != toys[1] and self.chance(RELATION):
            return self.relation(*(self.toy(*toy) for toy in toys))
        classes = {name for name, _ in toys}
        counts = Counter(toys)
        if len(classes) == 1 and len(counts) > 1 and self.chance(0.5):
            return self.colours_apart(toys[0][0], [str(colour) for _, colour in toys])
        return self.listed([self.toy(*toy, number) for toy, number in counts.items()])

    def single(self, name: str, colour: str | None) -> str:
        """Name the only toy of a picture."""
        raise NotImplementedError

    def toy(self, name: str, colour: str | None, number: int = 1) -> str:
        """Name one toy, or several alike, with or without their colour."""
        raise NotImplementedError

    def relation(self, left: str, right: str) -> str:
        """Say that one toy is left of another."""
        raise NotImplementedError

    def colours_apart(self, name: str, colours: Sequence[str]) -> str:
        """Name toys of one class in several colours by their number and each one's colour."""
        raise NotImplementedError

    def listed(self, toys: Sequence[str]) -> str:
        """Join the names of toys to a list."""
        raise NotImplementedError

    def distance(self, framing: str, text: str) -> str:
        """Say that a toy is near, in a portrait, or far."""
        raise NotImplementedError

    def alone(self, text: str) -> str:
        """Make a caption that names no ground."""
        raise NotImplementedError

    def somewhere(self, text: str, surface: str, flies: bool) -> str:
        """Make a caption that names the ground."""
        raise NotImplementedError


class EnglishWriter(Writer):
    """Writes in English, in lower case."""

    language = "en"

    NAMES: ClassVar = {
        "dog": ("puppy",),
        "cat": ("kitten",),
        "car": ("automobile",),
        "truck": ("lorry",),
        "airplane": ("plane", "aeroplane"),
        "boat": ("ship",),
        "rocket": ("spaceship",),
        "house": ("building",),
        "mushroom": ("toadstool",),
        "mug": ("cup",),
    }
    COLOURS: ClassVar = {"gray": ("grey",), "purple": ("violet",)}
    PLACES: ClassVar = {
        "grass": ("a lawn", "the grass"),
        "sand": ("a beach",),
        "a road": ("a street", "the road"),
        "water": ("a lake", "the water"),
        "a wooden floor": ("wood",),
        "a tiled floor": ("tiles",),
        "a carpet": ("a rug",),
    }
    PREFIXES = (
        "{}",
        "a photo of {}",
        "a photo of {}",
        "a picture of {}",
        "an image of {}",
        "this is {}",
        "there is {}",
        "a toy scene with {}",
    )
    OF_SEVERAL: ClassVar = {"this is {}": "these are {}", "there is {}": "there are {}"}
    PLACED = (
        "{toys} on {place}",
        "{toys} on {place}",
        "{toys} standing on {place}",
        "{place} with {toys} on it",
    )
    FLYING = ("{toys} flying over {place}", "{toys} over {place}")
    GROUND_FIRST = "on {place} we see {toys}"

    def single(self, name: str, colour: str | None) -> str:
        """Name a toy, one time in five without an article ("dog", "red dog")."""
        text = self.toy(name, colour)
        return re.sub("^an? ", "", text) if self.chance(0.2) else text

    def toy(self, name: str, colour: str | None, number: int = 1) -> str:
        """Name one toy ("a red dog"), or several alike ("two red dogs")."""
        noun = self.word(name, self.NAMES)
        colour = colour and self.word(colour, self.COLOURS)
        count, phrase = NUMBERS[number][0], self.plural(noun) if number > 1 else noun
        if name == "snowman" and colour:  # its colour is its scarf's
            scarf = f"with {colour} scarves" if number > 1 else f"with {article(colour)} scarf"
            return f"{count if number > 1 else 'a'} {phrase} {scarf}"
        if colour:
            phrase = f"{colour} {phrase}"
        return f"{count} {phrase}" if number > 1 else article(phrase)

    def plural(self, noun: str) -> str:
        """Return the plural of a noun."""
        irregular = {"lorry": "lorries", "puppy": "puppies"}
        return NOUNS[noun][1] if noun in NOUNS else irregular.get(noun, f"{noun}s")

    def relation(self, left: str, right: str) -> str:
        """Say that one toy is left of another."""
        options = (
            f"{left} to the left of {right}",
            f"{right} to the right of {left}",
            f"{left} on the left and {right} on the right",
        )
        return self.pick(options)

    def colours_apart(self, name: str, colours: Sequence[str]) -> str:
        """Write as in "two dogs, one red and one white"."""
        each = []
        for colour, number in Counter(colours).items():
            said = self.word(colour, self.COLOURS)
            scarf = f"with {article(said)} scarf" if number == 1 else f"with {said} scarves"
            each.append(f"{NUMBERS[number][0]} {scarf if name == 'snowman' else said}")
        toys = f"{NUMBERS[len(colours)][0]} {self.plural(self.word(name, self.NAMES))}"
        return f"{toys}, {self.listed(each)}"

    def listed(self, toys: Sequence[str]) -> str:
        """Join as in "a dog, a cat and a duck"."""
        *most, last = toys
        return f"{', '.join(most)} and {last}" if most else last

    def distance(self, framing: str, text: str) -> str:
        """Say "a close-up of" or "seen from afar"."""
        return f"a close-up of {text}" if framing == "portrait" else FAR.format(text)

    def alone(self, text: str) -> str:
        """Put "a photo of", "this is" or nothing before a text."""
        prefix = self.pick(self.PREFIXES)
        several = text.startswith(("two", "three"))
        return (self.OF_SEVERAL.get(prefix, prefix) if several else prefix).format(text)

    def somewhere(self, text: str, surface: str, flies: bool) -> str:
        """Name the ground, behind the toys or before them."""
        place = self.word(PLACES[surface][0], self.PLACES)
        if not flies and self.chance(0.1):
            return self.GROUND_FIRST.format(toys=text, place=place)
        template = self.pick(self.FLYING if flies else self.PLACED)
        return self.alone(template.format(toys=text, place=place))

    @classmethod
    def phrases(cls) -> Iterator[str]:
        """Yield phrases that together hold every word and sign of a caption."""
        for singular, plural, *_ in NOUNS.values():
            yield from (singular, plural)
        for others in (cls.NAMES, cls.COLOURS, cls.PLACES):
            for words in others.values():
                yield from words
        yield from COLOURS
        yield from (place for place, _ in PLACES.values())
        yield from (number for number, _ in NUMBERS.values())
        for template in (*cls.PREFIXES, *cls.PLACED, *cls.FLYING, cls.GROUND_FIRST):
            yield re.sub(r"\{\w*\}", " ", template)
        yield "these are puppies kittens automobiles lorries planes aeroplanes ships spaceships"
        yield "buildings toadstools cups with scarf scarves a an and , a close-up of seen from afar"
        yield "to the left of right"


class ChineseWriter(Writer):
    """Writes in simplified Chinese."""

    language = "zh"

    NAMES: ClassVar = {
        "狗": ("小狗", "狗狗"),
        "猫": ("小猫", "猫咪"),
        "小汽车": ("汽车", "轿车"),
        "卡车": ("货车",),
        "船": ("小船", "轮船"),
        "房子": ("房屋", "小房子"),
        "树": ("大树",),
        "马克杯": ("杯子",),
        "台灯": ("灯",),
        "鸭子": ("小鸭子",),
        "鱼": ("小鱼",),
    }
    MEASURES: ClassVar = {
        "dog": "只条",
        "car": "辆台",
        "truck": "辆台",
        "boat": "艘条",
        "rocket": "枚支",
        "house": "座栋间",
        "tree": "棵株",
        "mushroom": "朵个",
        "mug": "个只",
        "chair": "把张",
        "lamp": "盏个",
    }
    COLOURS: ClassVar = {
        "橙色": ("橘色", "橘黄色"),
        "粉色": ("粉红色",),
        "棕色": ("褐色", "咖啡色"),
        "红色": ("大红色",),
        "灰色": ("银灰色",),
    }
    PLACES: ClassVar = {
        "草地": ("草坪",),
        "沙地": ("沙滩",),
        "马路": ("公路", "路面"),
        "水面": ("湖面",),
        "木地板": ("木头地板",),
        "瓷砖地板": ("瓷砖", "瓷砖地面"),
        "地毯": ("毯子",),
    }
    PREFIXES = (
        "{}",
        "{}",
        "{}的照片",
        "一张{}的照片",
        "{}的图片",
        "这是{}",
        "有{}",
        "画面里有{}",
        "照片里是{}",
    )
    PLACED = (
        "{toys}在{place}上",
        "{toys}在{place}上",
        "{place}上有{toys}",
        "{place}上面有{toys}",
        "{place}上是{toys}",
        "有{toys}在{place}上",
        "照片里，{toys}在{place}上",
        "{toys}在{place}上的照片",
    )
    FLYING = ("{toys}在{place}上空飞行", "{toys}飞在{place}上空", "{place}上空有{toys}")

    def single(self, name: str, colour: str | None) -> str:
        """Name a toy, three times in ten without its number ("狗", "红色的狗")."""
        return self.what(name, colour) if self.chance(0.3) else self.toy(name, colour)

    def what(self, name: str, colour: str | None) -> str:
        """Name a thing without its number."""
        noun = self.word(NOUNS[name][3], self.NAMES)
        if not colour:
            return noun
        said = self.word(COLOURS_ZH[colour], self.COLOURS)
        if name == "snowman":  # its colour is its scarf's
            return f"{self.pick(('围', '戴'))}着{said}围巾的{noun}"
        return f"{said}{'' if self.chance(0.2) else '的'}{noun}"

    def measure(self, name: str) -> str:
        """Return a measure word that counts toys of a class."""
        return self.pick(self.MEASURES.get(name, NOUNS[name][2]))

    def toy(self, name: str, colour: str | None, number: int = 1) -> str:
        """Name one toy ("一只红色的狗"), or several alike ("两只红色的狗")."""
        return f"{NUMBERS[number][1]}{self.measure(name)}{self.what(name, colour)}"

    def relation(self, left: str, right: str) -> str:
        """Say that one toy is left of another."""
        options = (
            f"{left}在{right}的左边",
            f"{right}在{left}的右边",
            f"左边是{left}，右边是{right}",
        )
        return self.pick(options)

    def colours_apart(self, name: str, colours: Sequence[str]) -> str:
        """Write as in "两只狗，一只红色，一只白色"."""
        measure, each = self.measure(name), []
        for colour, number in Counter(colours).items():
            said = self.word(COLOURS_ZH[colour], self.COLOURS)
            worn = f"围着{said}围巾" if name == "snowman" else said
            each.append(f"{NUMBERS[number][1]}{measure}{worn}")
        noun = self.word(NOUNS[name][3], self.NAMES)
        return f"{NUMBERS[len(colours)][1]}{measure}{noun}，{'，'.join(each)}"

    def listed(self, toys: Sequence[str]) -> str:
        """Join as in "一只狗、一只猫和一只鸭子"."""
        *most, last = toys
        return f"{'、'.join(most)}和{last}" if most else last

    def distance(self, framing: str, text: str) -> str:
        """Say "近处" or "远处"."""
        return f"{'近' if framing == 'portrait' else '远'}处的{text}"

    def alone(self, text: str) -> str:
        """Say "的照片", "这是" or nothing beside a text."""
        return self.pick(self.PREFIXES).format(text)

    def somewhere(self, text: str, surface: str, flies: bool) -> str:
        """Name the ground, behind the toys or before them."""
        place = self.word(PLACES[surface][1], self.PLACES)
        template = self.pick(self.FLYING if flies else self.PLACED)
        return template.format(toys=text, place=place)

    @classmethod
    def phrases(cls) -> Iterator[str]:
        """Yield phrases that together hold every character of a caption."""
        yield from ("".join(noun[2:]) for noun in NOUNS.values())
        for others in (cls.NAMES, cls.COLOURS, cls.PLACES):
            for words in others.values():
                yield from words
        yield from cls.MEASURES.values()
        yield from COLOURS_ZH.values()
        yield from (place for _, place in PLACES.values())
        yield from (number for _, number in NUMBERS.values())
        for template in (*cls.PREFIXES, *cls.PLACED, *cls.FLYING):
            yield re.sub(r"\{\w*\}", "", template)
        yield "围戴着围巾的左右边是在和、，近远处的"


WRITERS: dict[Language, type[EnglishWriter] | type[ChineseWriter]] = {
    "en": EnglishWriter,
    "zh": ChineseWriter,
}


def mirrored(facts: Facts, width: int) -> Facts:
    """Return the facts of the mirror image of a picture ``width`` pixels wide."""
    objects = [{**one, "x": width - one["x"]} for one in reversed(facts["objects"])]
    return {**facts, "objects": objects}


def vocabulary(*languages: Language) -> Iterator[str]:
    """Yield every unit that a caption can hold: English words, Chinese characters, signs."""
    for language in languages:
        for phrase in WRITERS[language].phrases():
            yield from re.findall(r"[a-z]+|[^a-z\s]", phrase)
