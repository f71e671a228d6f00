"""Captions in English and Chinese, written from what a scene is known to contain."""

from __future__ import annotations

from collections import Counter

import numpy as np

from training.world.scene import Scene, entropy

LIFTED = 0.2  # metres; a toy higher than this flies

# Noun and its plural; measure word and noun.
NOUNS = {
    "dog": ("dog", "dogs", "只", "狗"),
    "cat": ("cat", "cats", "只", "猫"),
    "car": ("car", "cars", "辆", "小汽车"),
    "truck": ("truck", "trucks", "辆", "卡车"),
    "airplane": ("airplane", "airplanes", "架", "飞机"),
    "boat": ("boat", "boats", "艘", "船"),
    "rocket": ("rocket", "rockets", "枚", "火箭"),
    "house": ("house", "houses", "座", "房子"),
    "tree": ("tree", "trees", "棵", "树"),
    "mushroom": ("mushroom", "mushrooms", "朵", "蘑菇"),
    "snowman": ("snowman", "snowmen", "个", "雪人"),
    "mug": ("mug", "mugs", "个", "马克杯"),
    "chair": ("chair", "chairs", "把", "椅子"),
    "lamp": ("lamp", "lamps", "盏", "台灯"),
    "duck": ("duck", "ducks", "只", "鸭子"),
    "fish": ("fish", "fish", "条", "鱼"),
}
COLOURS_ZH = {
    "red": "红色",
    "orange": "橙色",
    "yellow": "黄色",
    "green": "绿色",
    "blue": "蓝色",
    "purple": "紫色",
    "pink": "粉色",
    "brown": "棕色",
    "black": "黑色",
    "white": "白色",
    "gray": "灰色",
}
# With the article that the surface takes in English.
PLACES = {
    "grass": ("grass", "草地"),
    "sand": ("sand", "沙地"),
    "snow": ("snow", "雪地"),
    "road": ("a road", "马路"),
    "water": ("water", "水面"),
    "wood": ("a wooden floor", "木地板"),
    "tiles": ("a tiled floor", "瓷砖地板"),
    "carpet": ("a carpet", "地毯"),
}
NUMBERS = {1: ("one", "一"), 2: ("two", "两"), 3: ("three", "三")}

TEMPLATES = (
    "{toys} on {place}",
    "a picture of {toys} on {place}",
    "on {place}: {toys}",
    "a render of {toys} on {place}",
)
TEMPLATES_ZH = (
    "{toys}在{place}上",
    "{place}上有{toys}",
    "图中{place}上有{toys}",
    "{place}上的{toys}",
)
FLYING = {
    "airplane": ("{toys} flying over {place}", "{toys}在{place}上空飞行"),
    "rocket": ("{toys} lifting off from {place}", "{toys}正从{place}上升空"),
}


def article(phrase: str) -> str:
    """Puts "a" or "an" before a phrase."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _several(class_name: str, colours: list[str]) -> tuple[str, str]:
    """All toys of one class, in English and Chinese."""
    noun, plural, measure, noun_zh = NOUNS[class_name]
    number, number_zh = NUMBERS[len(colours)]
    counts = Counter(colours)
    scarf = class_name == "snowman"  # its colour is its scarf's
    if len(counts) == 1:
        colour = colours[0]
        colour_zh = COLOURS_ZH[colour]
        phrase_zh = f"{number_zh}{measure}" + (
            f"围着{colour_zh}围巾的{noun_zh}" if scarf else f"{colour_zh}的{noun_zh}"
        )
        if len(colours) > 1:
            phrase = f"{number} " + (
                f"{plural} with {colour} scarves" if scarf else f"{colour} {plural}"
            )
        elif scarf:
            phrase = f"a {noun} with {article(colour)} scarf"
        else:
            phrase = f"{article(colour)} {noun}"
        return phrase, phrase_zh
    each, each_zh = [], []
    for colour, count in counts.items():
        one, one_zh = NUMBERS[count]
        scarves = f"with {colour} scarves" if count > 1 else f"with {article(colour)} scarf"
        each.append(f"{one} {scarves if scarf else colour}")
        worn = f"围着{COLOURS_ZH[colour]}围巾" if scarf else f"是{COLOURS_ZH[colour]}的"
        each_zh.append(f"{one_zh}{measure}{worn}")
    return (
        f"{number} {plural} ({', '.join(each)})",
        f"{number_zh}{measure}{noun_zh}（{'，'.join(each_zh)}）",
    )


def caption(scene: Scene) -> tuple[str, str]:
    """Describes the toys and the surface of a scene.

    Args:
        scene: its seed chooses the wording.

    Returns:
        An English caption such as "a yellow duck on grass" and a Chinese one such as
        "一只黄色的鸭子在草地上".
    """
    by_class: dict[str, list[str]] = {}
    for item in scene.toys:
        by_class.setdefault(item.toy.class_name, []).append(item.toy.colour)
    phrases, phrases_zh = zip(*(_several(*entry) for entry in by_class.items()), strict=True)
    *most, last = phrases
    toys = f"{', '.join(most)} and {last}" if most else last
    *most, last = phrases_zh
    toys_zh = f"{'、'.join(most)}和{last}" if most else last

    rng = np.random.default_rng(entropy(scene.seed, 1))
    template = TEMPLATES[rng.integers(len(TEMPLATES))]
    template_zh = TEMPLATES_ZH[rng.integers(len(TEMPLATES_ZH))]
    first = scene.toys[0]
    if len(scene.toys) == 1 and first.position[2] > LIFTED:
        template, template_zh = FLYING[first.toy.class_name]
    place, place_zh = PLACES[scene.surface]
    return template.format(toys=toys, place=place), template_zh.format(toys=toys_zh, place=place_zh)
