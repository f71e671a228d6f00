"""Generated passages of Markdown, between `<!-- NAME:begin -->` and `<!-- NAME:end -->`."""

import re
from collections.abc import Mapping

_BLOCK = re.compile(r"<!-- (?P<name>[\w-]+):begin -->.*?<!-- (?P=name):end -->", re.DOTALL)


def fill(markdown: str, passages: Mapping[str, str]) -> str:
    """Writes each passage between its markers, in place of what stood there.

    Raises:
        KeyError: the text has markers for which there is no passage.
    """

    def block(match: re.Match[str]) -> str:
        name = match["name"]
        return f"<!-- {name}:begin -->\n\n{passages[name].strip()}\n\n<!-- {name}:end -->"

    return _BLOCK.sub(block, markdown)


def empty(markdown: str) -> str:
    """The text with nothing between its markers, as notebook sources have it."""
    return _BLOCK.sub(
        lambda match: f"<!-- {match['name']}:begin --><!-- {match['name']}:end -->", markdown
    )


def names(markdown: str) -> list[str]:
    """Names of the blocks in the text, in order."""
    return [match["name"] for match in _BLOCK.finditer(markdown)]
