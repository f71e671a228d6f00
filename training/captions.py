"""Captions for training, in English and Chinese: many ways to say what a picture shows.

The captions of the sample data come from `training.world.captions`; these here are looser, with
synonyms, counts, relations and things left unsaid, as people's captions are. A picture is as often
named by its class alone ("dog", "a photo of a dog") as with colour and ground. Where colours are
told, they are told of every toy.

Every caption is one that a writer of the language could have written: which frames go around which
words is said by the `Form` of the words ("there is" wants an article; a Chinese relation, being a
sentence, goes behind no "有").

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
#: How toys are named: one of them; several; one beside another ("to the left of"); each on a side
#: ("on the left ... on the right"); several of one class, then the colour of each.
Form = Literal["toy", "list", "beside", "sides", "apart"]
Distance = Literal["near", "far"]

UNSEEN = {
    "en": (
        "on {place}: {toys}",
        "a render of {toys} on {place}",
        "{toys} lifting off from {place}",
    ),
    "zh": ("图中{place}上有{toys}", "{place}上的{toys}", "{toys}正从{place}上升空"),
}

SYNONYM = 0.2  # how often another word is taken for a thing, a colour or a ground
BARE = 0.5  # how often the article is left out of a caption that begins with the only toy
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
    distance: Distance | None


@dataclass(frozen=True)
class Named:
    """The toys of a picture in words."""

    text: str
    form: Form


class Writer:
    """Writes captions; the same generator state gives the same caption.

    Args:
        rng: Source of every choice.
    """

    language: ClassVar[Language]

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self._chosen: dict[str, str] = {}

    def chance(self, probability: float) -> bool:
        """Return True this often."""
        return bool(self.rng.random() < probability)

    def pick(self, options: Sequence[str]) -> str:
        """Return one of the options."""
        return options[int(self.rng.integers(len(options)))]

    def word(self, usual: str, others: Mapping[str, Sequence[str]]) -> str:
        """Return the usual word or, now and then, another; within a caption always the same."""
        if usual not in self._chosen:
            other = usual in others and self.chance(SYNONYM)
            self._chosen[usual] = self.pick(others[usual]) if other else usual
        return self._chosen[usual]

    def told(self, facts: Facts, grey: bool) -> Told:
        """Choose what to tell of a picture; of a grey one, no colours."""
        single = len(facts["objects"]) == 1
        shares = TOLD if single else TOLD_OF_SEVERAL
        chosen = self.rng.choice(len(shares), p=list(shares.values()))
        colours, place = list(shares)[chosen]
        distance: Distance | None = None
        if single and self.chance(DISTANCE):
            distance = "near" if facts["framing"] == "portrait" else "far"
        return Told(colours and not grey, place, distance)

    def caption(self, facts: Facts, grey: bool = False) -> str:
        """Write one caption, without colours for a grey picture.

        Args:
            facts: Class, colour and place of each toy, from left to right, and the ground.
            grey: Whether the picture is shown without colours.
        """
        self._chosen = {}
        told = self.told(facts, grey)
        toys = [(one["class"], one["colour"] if told.colours else None) for one in facts["objects"]]
        named = self.toys(toys)
        if not told.place:
            return self.alone(named, told.distance)
        flies = len(toys) == 1 and facts["objects"][0]["flying"]
        return self.somewhere(named, facts["surface"], flies, told.distance)

    def naming(self, name: str, colour: str | None) -> str:
        """Write a caption that names one toy and nothing else."""
        self._chosen = {}
        return self.alone(self.single(name, colour))

    def toys(self, toys: Sequence[Toy]) -> Named:
        """Name the toys of a picture, given from left to right."""
        if len(toys) == 1:
            return self.single(*toys[0])
        if len(toys) == 2 and toys[0] != toys[1] and self.chance(RELATION):
            return self.relation(*(self.toy(*toy) for toy in toys))
        classes = {name for name, _ in toys}
        counts = Counter(toys)
        if len(classes) == 1 and len(counts) > 1 and self.chance(0.5):
            text = self.colours_apart(toys[0][0], [str(colour) for _, colour in toys])
            return Named(text, "apart")
        return Named(self.listed([self.toy(*toy, n) for toy, n in counts.items()]), "list")

    def single(self, name: str, colour: str | None) -> Named:
        """Name the only toy of a picture."""
        raise NotImplementedError

    def toy(self, name: str, colour: str | None, number: int = 1) -> str:
        """Name one toy, or several alike, with or without their colour."""
        raise NotImplementedError

    def relation(self, left: str, right: str) -> Named:
        """Say that one toy is left of another."""
        raise NotImplementedError

    def colours_apart(self, name: str, colours: Sequence[str]) -> str:
        """Name toys of one class in several colours by their number and each one's colour."""
        raise NotImplementedError

    def listed(self, toys: Sequence[str]) -> str:
        """Join the names of toys to a list."""
        raise NotImplementedError

    def alone(self, named: Named, distance: Distance | None = None) -> str:
        """Make a caption that names no ground."""
        raise NotImplementedError

    def somewhere(
        self, named: Named, surface: str, flies: bool, distance: Distance | None = None
    ) -> str:
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
    #: Words for a ground that "... with a dog on it" does not go with.
    NEVER_FIRST = ("the grass", "the road", "the water", "tiles")
    PREFIXES = (
        "{}",
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
    )
    HOLDING = "{place} with {toys} on it"
    FLYING = ("{toys} flying over {place}", "{toys} over {place}")
    GROUND_FIRST = "on {place} we see {toys}"

    def single(self, name: str, colour: str | None) -> Named:
        """Name a toy, with its article."""
        return Named(self.toy(name, colour), "toy")

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

    def relation(self, left: str, right: str) -> Named:
        """Say that one toy is left of another."""
        options = (
            Named(f"{left} to the left of {right}", "beside"),
            Named(f"{right} to the right of {left}", "beside"),
            Named(f"{left} on the left and {right} on the right", "sides"),
        )
        return options[int(self.rng.integers(len(options)))]

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

    def alone(self, named: Named, distance: Distance | None = None) -> str:
        """Put "a photo of", "this is" or nothing before the toys."""
        if distance == "near":
            return f"a close-up of {named.text}"
        text = FAR.format(named.text) if distance else named.text
        return self.framed(text, named.form)

    def framed(self, text: str, form: Form) -> str:
        """Put a beginning before a text that fits it in number."""
        prefix = self.pick(self.PREFIXES)
        if prefix == "{}" and form == "toy" and self.chance(BARE):
            return re.sub("^an? ", "", text)
        several = text.startswith(("two", "three"))
        if prefix == "this is {}" and form == "sides":
            prefix = "there is {}"
        elif several or (form == "list" and prefix == "this is {}"):
            prefix = self.OF_SEVERAL.get(prefix, prefix)
        return prefix.format(text)

    def somewhere(
        self, named: Named, surface: str, flies: bool, distance: Distance | None = None
    ) -> str:
        """Name the ground, behind the toys or before them."""
        usual = PLACES[surface][0]
        place = self.word(usual, self.PLACES)
        if distance == "near":
            return f"a close-up of {named.text} {'over' if flies else 'on'} {place}"
        if not flies and not distance and self.chance(0.1):
            return self.GROUND_FIRST.format(toys=named.text, place=place)
        if not flies and named.form not in ("sides", "apart") and self.chance(0.25):
            ground = usual if place in self.NEVER_FIRST else place
            text = self.holding(self.HOLDING.format(toys=named.text, place=ground))
        else:
            template = self.pick(self.FLYING if flies else self.placed(named, surface))
            text = self.framed(template.format(toys=named.text, place=place), named.form)
        return f"{text}, seen from afar" if distance else text

    def placed(self, named: Named, surface: str) -> Sequence[str]:
        """Return the ways to say that toys are on a ground, which fit these toys."""
        stands = surface != "water" and "fish" not in named.text
        fitting = [one for one in self.PLACED if stands or "standing" not in one]
        if named.form in ("sides", "apart"):  # else the last toy alone were there
            fitting = [one.replace("{toys}", "{toys},") for one in fitting]
        return fitting

    def holding(self, text: str) -> str:
        """Put a beginning before "a road with a dog on it"."""
        fitting = [one for one in self.PREFIXES if not one.endswith("with {}")]
        return self.pick(fitting).format(text)

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
        for template in (*cls.PREFIXES, *cls.PLACED, *cls.FLYING, cls.HOLDING, cls.GROUND_FIRST):
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
    PLAIN = ("{}", "{}")
    PICTURES = ("{}的照片", "{}的图片")
    PRESENTED = ("这是{}", "有{}", "画面里有{}", "照片里是{}")
    WITHIN = ("照片里，{}", "画面里，{}")  # before what is a sentence
    OF_A = "一张{}的照片"  # around a toy without its number
    PREFIXES: ClassVar[Mapping[Form, Sequence[str]]] = {
        "toy": (*PLAIN, *PICTURES, OF_A, *PRESENTED),
        "list": (*PLAIN, *PICTURES, *PRESENTED),
        "apart": (*PLAIN, *PRESENTED),
        "beside": (*PLAIN, "{}的照片", *WITHIN),
        "sides": (*PLAIN, *WITHIN),
    }
    TOYS_FIRST = (
        "{toys}在{place}上",
        "{toys}在{place}上",
        "有{toys}在{place}上",
        "照片里，{toys}在{place}上",
        "{toys}在{place}上的照片",
    )
    GROUND_FIRST = ("{place}上有{toys}", "{place}上面有{toys}", "{place}上是{toys}")
    GROUND_OF_ALL = "{place}上，{toys}"  # before what is a sentence
    PLACED: ClassVar[Mapping[Form, Sequence[str]]] = {
        "toy": (*TOYS_FIRST, *GROUND_FIRST),
        "list": (*TOYS_FIRST, *GROUND_FIRST),
        "apart": GROUND_FIRST,
        "beside": (GROUND_OF_ALL,),
        "sides": (GROUND_OF_ALL,),
    }
    FAR_OR_NEAR: ClassVar[Mapping[Distance, str]] = {"near": "近", "far": "远"}
    AT_DISTANCE = ("{distance}处有{toys}", "{distance}处的{toys}", "{distance}处的{toys}的照片")
    PLACED_AT_DISTANCE = ("{distance}处的{place}上有{toys}", "{distance}处的{place}上是{toys}")
    FLYING_AT_DISTANCE = "{distance}处的{place}上空有{toys}"
    FLYING = ("{toys}在{place}上空飞行", "{toys}飞在{place}上空", "{place}上空有{toys}")

    def single(self, name: str, colour: str | None) -> Named:
        """Name a toy, three times in ten without its number ("狗", "红色的狗")."""
        text = self.what(name, colour) if self.chance(0.3) else self.toy(name, colour)
        return Named(text, "toy")

    def what(self, name: str, colour: str | None) -> str:
        """Name a thing without its number."""
        noun = self.word(NOUNS[name][3], self.NAMES)
        if not colour:
            return noun
        said = self.word(COLOURS_ZH[colour], self.COLOURS)
        if name == "snowman":  # its colour is its scarf's
            return f"{self.pick(('围', '戴'))}着{said}围巾的{noun}"
        tight = len(noun) > 1 and self.chance(0.2)  # "红色的狗", but "红色小狗" too
        return f"{said}{'' if tight else '的'}{noun}"

    def measure(self, name: str) -> str:
        """Return a measure word that counts toys of a class; within a caption always the same."""
        key = f"measure of {name}"
        if key not in self._chosen:
            self._chosen[key] = self.pick(self.MEASURES.get(name, NOUNS[name][2]))
        return self._chosen[key]

    def toy(self, name: str, colour: str | None, number: int = 1) -> str:
        """Name one toy ("一只红色的狗"), or several alike ("两只红色的狗")."""
        return f"{NUMBERS[number][1]}{self.measure(name)}{self.what(name, colour)}"

    def relation(self, left: str, right: str) -> Named:
        """Say that one toy is left of another."""
        options = (
            Named(f"{left}在{right}的左边", "beside"),
            Named(f"{right}在{left}的右边", "beside"),
            Named(f"左边是{left}，右边是{right}", "sides"),
        )
        return options[int(self.rng.integers(len(options)))]

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

    def alone(self, named: Named, distance: Distance | None = None) -> str:
        """Say "的照片", "这是" or nothing beside the toys."""
        if distance:
            template = self.pick(self.AT_DISTANCE)
            return template.format(distance=self.FAR_OR_NEAR[distance], toys=named.text)
        template = self.pick(self.PREFIXES[named.form])
        text = re.sub("^一.", "", named.text) if template == self.OF_A else named.text
        return template.format(text)

    def somewhere(
        self, named: Named, surface: str, flies: bool, distance: Distance | None = None
    ) -> str:
        """Name the ground, behind the toys or before them."""
        place = self.word(PLACES[surface][1], self.PLACES)
        if not distance:
            template = self.pick(self.FLYING if flies else self.PLACED[named.form])
            return template.format(toys=named.text, place=place)
        template = self.FLYING_AT_DISTANCE if flies else self.pick(self.PLACED_AT_DISTANCE)
        said = self.FAR_OR_NEAR[distance]
        return template.format(distance=said, toys=named.text, place=place)

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
        frames = (*cls.PREFIXES["toy"], *cls.PLACED["toy"], *cls.FLYING, *cls.WITHIN)
        for template in frames:
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
