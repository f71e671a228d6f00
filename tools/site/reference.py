"""The pages of the API: every public name, from its docstring."""

import importlib
import inspect
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from tools.site import contents

# what is not the library's own
_FOREIGN = "object, BaseException, Exception, ValueError, RuntimeError, tuple, dict, Protocol"


@dataclass(frozen=True)
class Room:
    """A module whose public names are documented together.

    Attributes:
        module: its name.
        title: of its page.
        about: a sentence on what is in it.
        one_page_each: whether each name has a page of its own.
    """

    module: str
    title: str
    about: str
    one_page_each: bool = False


ROOMS = (
    Room(
        "dinov2_helpers",
        "Load, read, extract",
        "The names that most people need, on the package itself.",
    ),
    Room(
        "dinov2_helpers.techniques",
        "Techniques",
        "The seven techniques as objects to keep: fit them, ask them, save them, load them.",
        one_page_each=True,
    ),
    Room("dinov2_helpers.extraction", "Features", "What `extract_features` returns."),
    Room("dinov2_helpers.models", "Models", "Profiles, and what a model is to the library."),
    Room("dinov2_helpers.pictures", "Pictures", "Files to pixels, masks, class maps and depth."),
    Room("dinov2_helpers.measure", "Measures", "Scores and their intervals."),
    Room("dinov2_helpers.claims", "Claims", "Sentences and verdicts that are computed."),
    Room("dinov2_helpers.quiz", "Quiz", "The questions at the end of each lesson."),
    Room("dinov2_helpers.samples", "Sample data", "The rendered scenes and the photographs."),
    Room("dinov2_helpers.plotting", "Plotting", "Figures with an alt text."),
    Room("dinov2_scale", "dinov2_scale", "Features of millions of pictures, part by part."),
)


def public_names(module: ModuleType) -> list[str]:
    """The names of `__all__`, or else the functions and classes that the module defines."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
    ]


def pages() -> dict[str, str]:
    """Markdown of every page of the API, by name; the first is the one that lists the others."""
    made: dict[str, str] = {}
    seen: dict[int, str] = {}  # what is documented already, and where
    entries, toplevel = [], []
    for room in ROOMS:
        module = importlib.import_module(room.module)
        names = public_names(module)
        page = f"api/{room.module}"
        toplevel.append(page)
        own = [name for name in names if id(getattr(module, name)) not in seen]
        again = [name for name in names if name not in own]
        places = {name: f"api/{name}" if room.one_page_each else page for name in own}
        seen |= {id(getattr(module, name)): name for name in own}
        made[page] = _room(room, module, own, again)
        if room.one_page_each:
            made[page] += contents.toctree(tuple(places.values()))
            made |= {places[name]: _alone(room.module, name, module) for name in own}
        listed = ", ".join(f"{{py:obj}}`{name} <{room.module}.{name}>`" for name in own)
        link = f"[{room.title}]({page.removeprefix('api/')}.md)"
        entries.append(f"**{link}** (`{room.module}`). {room.about}\n{listed}.\n")
    introduction = (
        "# API\n\nEvery public name, from its docstring. [The library](../docs/library.md) has "
        "ten lines for each technique to begin with.\n\n"
    )
    index = introduction + "\n".join(entries) + contents.toctree(tuple(toplevel))
    return {contents.API: index} | made


def _room(room: Room, module: ModuleType, own: list[str], again: list[str]) -> str:
    lines = [f"# {room.title}", "", f"`{room.module}`: {room.about}", ""]
    if room.one_page_each:
        for name in own:
            first = (inspect.getdoc(getattr(module, name)) or "").split("\n\n")[0]
            sentence = " ".join(first.split())
            lines.append(f"- {{py:obj}}`{name} <{room.module}.{name}>`: {sentence}")
    else:
        for name in own:
            lines.append(_directive(room.module, name, getattr(module, name)))
    if again:
        others = ", ".join(f"{{py:obj}}`{name}`" for name in again)
        lines += ["", f"Also here, and described elsewhere: {others}."]
    return "\n".join(lines) + "\n"


def _alone(module_name: str, name: str, module: ModuleType) -> str:
    return f"# {name}\n\n{_directive(module_name, name, getattr(module, name))}\n"


def _directive(module: str, name: str, value: Any) -> str:
    lines = [f".. autodata:: {module}.{name}", "   :no-value:"]
    if inspect.isclass(value):
        lines = [
            f".. autoclass:: {module}.{name}",
            "   :members:",
            f"   :inherited-members: {_FOREIGN}",
        ]
    elif callable(value) and inspect.isroutine(value):
        lines = [f".. autofunction:: {module}.{name}"]
    return "\n".join(["```{eval-rst}", *lines, "```", ""])
