"""The modules import each other downwards only, wherever in a file the import stands."""

import re

import pytest

from tools import imports, pairing
from tools.project import ROOT

PACKAGES = ("dinov2_helpers", "dinov2_scale", "tools", "benchmarks", "training")
MODULES = imports.find_modules(ROOT, PACKAGES)
ARROWS = imports.graph(MODULES)

# What each package may import besides itself.
BELOW = {
    "dinov2_helpers": set(),
    "dinov2_scale": {"dinov2_helpers"},
    "training": {"dinov2_helpers"},
    "tools": {"dinov2_helpers", "dinov2_scale"},
    "benchmarks": {"dinov2_helpers", "dinov2_scale", "tools"},
}
# The rooms of dinov2_helpers, a floor a line: each imports from the floors above its own line only.
FLOORS = (
    {"colab", "data", "errors", "extras", "hashes", "measure", "quiz", "threads", "writing"},
    {"pictures"},
    {"plotting"},
    {"widgets", "models", "samples"},
    {"claims", "course", "extraction"},
    {"lit"},
    {"clip"},
    {"techniques"},
    {"cli"},
)


def test_no_modules_import_each_other():
    assert imports.circles(ARROWS) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_those_below_it(package):
    upwards = [
        f"{name} imports {target}"
        for name, found in ARROWS.items()
        for target in sorted(found)
        if name.split(".")[0] == package and target.split(".")[0] not in BELOW[package] | {package}
    ]
    assert upwards == []


def room(module):
    """The part of dinov2_helpers that a module belongs to; "" for the package itself."""
    return [*module.split("."), ""][1]


def misplaced(arrows, floors):
    """Imports between rooms that do not lead down, one sentence each."""
    height = {name: number for number, names in enumerate(floors) for name in names}
    for name, found in arrows.items():
        if not name.startswith("dinov2_helpers."):
            continue
        for target in sorted(found):
            elsewhere = room(target) != room(name)
            if elsewhere and height.get(room(target), len(floors)) >= height[room(name)]:
                yield f"{name} imports {target}"


def test_every_room_has_a_floor_and_imports_from_lower_ones_only():
    rooms = {room(name) for name in MODULES if name.startswith("dinov2_helpers.")}
    assert rooms <= set().union(*FLOORS), "give the new room its place in FLOORS"
    assert list(misplaced(ARROWS, FLOORS)) == []


def test_no_import_hides_from_the_reading_of_the_text():
    """The staleness of outputs would not see it."""
    hidden = re.compile(r"\bimport_module\(|\b__import__\(")
    used = imports.find_modules(ROOT, pairing.PACKAGES)
    assert [
        name for name, path in used.items() if hidden.search(path.read_text(encoding="utf-8"))
    ] == []


TOY = {
    "house/__init__.py": "",
    "house/cellar.py": "",
    "house/kitchen/__init__.py": "from .stove import fire\n",
    "house/kitchen/stove.py": "from .. import cellar\n",
    "house/kitchen/table.py": "import house.cellar\nfrom . import stove\n",
    "house/roof.py": "def late():\n    from .kitchen import table, fire\n    import json\n",
}


@pytest.fixture
def toy(tmp_path):
    for name, text in TOY.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def test_every_form_of_import_is_resolved(toy):
    assert imports.graph(imports.find_modules(toy, ["house"])) == {
        "house": set(),
        "house.cellar": set(),
        "house.kitchen": {"house.kitchen.stove"},
        "house.kitchen.stove": {"house.cellar"},
        "house.kitchen.table": {"house.cellar", "house.kitchen.stove"},
        "house.roof": {"house.kitchen.table", "house.kitchen"},
    }


def test_what_is_reached_includes_the_packages_around(toy):
    modules = imports.find_modules(toy, ["house"])
    assert imports.reached({"house.kitchen.table"}, modules) == {
        "house",
        "house.cellar",
        "house.kitchen",
        "house.kitchen.stove",
        "house.kitchen.table",
    }


def test_a_circle_through_a_function_is_found(toy):
    (toy / "house" / "cellar.py").write_text(
        "def up():\n    from .roof import late\n", encoding="utf-8"
    )
    arrows = imports.graph(imports.find_modules(toy, ["house"]))
    assert imports.circles(arrows) == [
        [
            "house.cellar",
            "house.kitchen",
            "house.kitchen.stove",
            "house.kitchen.table",
            "house.roof",
        ]
    ]


def test_an_import_upwards_is_found():
    arrows = {"dinov2_helpers.hashes": {"dinov2_helpers.features"}}
    assert list(misplaced(arrows, FLOORS)) == [
        "dinov2_helpers.hashes imports dinov2_helpers.features"
    ]
