"""The classes of toys, the colours each usually has, and those kept for tests.

Colours are as in life: a duck is yellow, a tree green. Every colour is usual for at least two
classes, so that it can be told apart from the class. A snowman is white: its colour is its scarf's.
"""

from __future__ import annotations

CLASSES = (
    "dog",
    "cat",
    "car",
    "truck",
    "airplane",
    "boat",
    "rocket",
    "house",
    "tree",
    "mushroom",
    "snowman",
    "mug",
    "chair",
    "lamp",
    "duck",
    "fish",
)

PALETTES: dict[str, tuple[str, ...]] = {
    "dog": ("brown", "black", "white", "gray"),
    "cat": ("orange", "black", "white", "gray"),
    "car": ("red", "blue", "white", "black", "yellow"),
    "truck": ("red", "blue", "orange", "green", "white"),
    "airplane": ("white", "gray", "red", "blue"),
    "boat": ("red", "blue", "white", "green"),
    "rocket": ("red", "white", "orange", "gray"),
    "house": ("white", "yellow", "red", "pink", "brown"),
    "tree": ("green", "orange", "yellow"),
    "mushroom": ("red", "brown", "orange"),
    "snowman": ("red", "blue", "green", "purple", "yellow"),
    "mug": ("white", "blue", "red", "yellow", "pink"),
    "chair": ("brown", "red", "black", "white"),
    "lamp": ("yellow", "orange", "white", "green", "purple"),
    "duck": ("yellow", "white", "brown"),
    "fish": ("orange", "red", "blue", "yellow", "purple"),
}

EXCEPTIONS: dict[str, tuple[str, ...]] = {
    "dog": ("blue", "pink"),
    "cat": ("green", "purple"),
    "car": ("purple", "pink"),
    "truck": ("pink", "purple"),
    "airplane": ("brown", "pink"),
    "boat": ("purple", "gray"),
    "rocket": ("brown", "green"),
    "house": ("purple", "black"),
    "tree": ("blue", "purple"),
    "mushroom": ("blue", "green"),
    "snowman": ("brown", "gray"),
    "mug": ("gray", "orange"),
    "chair": ("pink", "orange"),
    "lamp": ("black", "brown"),
    "duck": ("blue", "red"),
    "fish": ("brown", "black"),
}
