"""Generated passages of documents, between markers that readers do not see.

In Markdown they stand between `<!-- NAME:begin -->` and `<!-- NAME:end -->`, in files whose
comments begin with # between the lines `# NAME:begin` and `# NAME:end`.
"""

import re
from collections.abc import Mapping

_BLOCK = re.compile(
    r"<!-- (?P<name>[\w-]+):begin -->(?P<body>.*?)<!-- (?P=name):end -->", re.DOTALL
)
_LINES = re.compile(
    r"^# (?P<name>[\w-]+):begin\n(?:.*?\n)??# (?P=name):end$", re.DOTALL | re.MULTILINE
)


def fill(markdown: str, passages: Mapping[str, str]) -> str:
    """Writes each passage between its markers, in place of what stood there; "" leaves nothing.

    Raises:
        KeyError: the text has markers for which there is no passage.
    """

    def block(match: re.Match[str]) -> str:
        name, passage = match["name"], passages[match["name"]].strip()
        between = f"\n\n{passage}\n\n" if passage else ""
        return f"<!-- {name}:begin -->{between}<!-- {name}:end -->"

    return _BLOCK.sub(block, markdown)


def empty(markdown: str) -> str:
    """The text with nothing between its markers, as notebook sources have it."""
    return _BLOCK.sub(
        lambda match: f"<!-- {match['name']}:begin --><!-- {match['name']}:end -->", markdown
    )


def names(markdown: str) -> list[str]:
    """Names of the blocks in the text, in order."""
    return [match["name"] for match in _BLOCK.finditer(markdown)]


def passages(markdown: str) -> dict[str, str]:
    """What stands between the markers of each block in the text."""
    return {match["name"]: match["body"].strip() for match in _BLOCK.finditer(markdown)}


def uncommented(markdown: str) -> str:
    """The text without the markers, for those who read it outside of the repository."""
    return re.sub(r"<!--.*?-->\n*", "", markdown, flags=re.DOTALL)


def fill_lines(text: str, passages: Mapping[str, str]) -> str:
    """Writes lines between those that mark them, as in TOML and YAML.

    Raises:
        KeyError: the text has markers for which there are no lines.
    """

    def block(match: re.Match[str]) -> str:
        name = match["name"]
        between = f"{passages[name]}\n" if passages[name] else ""
        return f"# {name}:begin\n{between}# {name}:end"

    return _LINES.sub(block, text)
