"""Markdown of the repository as the site has it: links to its pages, no picture of another host."""

import posixpath
import re
from collections.abc import Collection

from tools.project import Project
from tools.site import contents

_FENCE = re.compile(r"(^```.*?^```\n?)", re.MULTILINE | re.DOTALL)
_PICTURE_ELSEWHERE = re.compile(r"!\[(?P<alt>[^\]]*)\]\(https?://[^)]*\)")
_LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?P<path>[\w./-]+)(?P<anchor>#[\w-]*)?\)")
_ADDRESS = re.compile(r'href="(?P<path>[\w./-]+)(?P<anchor>#[\w-]*)?"')  # of written HTML
_COMMENT = re.compile(r"<!--.*?-->\n*", re.DOTALL)
PICTURES = (".png", ".jpg", ".jpeg", ".svg")


def as_page(
    project: Project, path: str, text: str, pages: Collection[str], *, made: bool = False
) -> str:
    """The text of a page.

    Args:
        project: the checkout.
        path: where the text is in the repository, as "docs/faq.md".
        text: Markdown; what stands in fences is left alone.
        pages: all pages of the site.
        made: whether links name the pages as they are once made, as an output's have to, which
            Sphinx leaves as it is; else their sources.
    """
    folder = posixpath.dirname(path)

    def link(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match["path"]))
        known = contents.page_of(target)
        suffix = posixpath.splitext(target)[1]
        if match["picture"] or suffix in PICTURES or not (project.root / target).exists():
            return match[0]
        if known in pages:
            kind = ".html" if made else ".ipynb" if suffix == ".ipynb" else ".md"
            there = posixpath.relpath(known + kind, folder or ".")
            return f"[{match['text']}]({there}{match['anchor'] or ''})"
        return _file(project, match["text"], target)

    def address(match: re.Match[str]) -> str:
        known = contents.page_of(posixpath.normpath(posixpath.join(folder, match["path"])))
        if known not in pages:
            return match[0]
        return f'href="{posixpath.relpath(known, folder or ".")}.html{match["anchor"] or ""}"'

    parts = _FENCE.split(_COMMENT.sub("", text))
    for number in range(0, len(parts), 2):
        part = _PICTURE_ELSEWHERE.sub(r"\g<alt>", parts[number])
        parts[number] = _ADDRESS.sub(address, _LINK.sub(link, part))
    return "".join(parts)


def _file(project: Project, text: str, path: str) -> str:
    """A file of the repository that is no page: its public address, or its name."""
    if project.repository:
        return f"[{text}](https://github.com/{project.repository}/blob/main/{path})"
    return text if posixpath.basename(path) in text else f"{text} (`{path}`)"


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and MyST make it."""
    text = re.sub(r"[^\w\s-]", "", heading.lower(), flags=re.UNICODE)
    return re.sub(r"\s", "-", text.strip())


def headings(text: str) -> list[str]:
    """The headings of a Markdown text, without those in fences."""
    outside = _FENCE.sub("", text)
    return [match.strip() for match in re.findall(r"^#{1,6} (.*)$", outside, re.MULTILINE)]
