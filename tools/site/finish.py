"""What is changed in the pages that Sphinx has written, for those who listen to them."""

import re
from pathlib import Path

from tools.site import contents

# a signature on several lines: a list of descriptions without a term, inside of a term
_PARAMETERS = re.compile(r"<dl>\n(?P<lines>(?:<dd>.*?</dd>\n)+)</dl>", re.DOTALL)
_TOGGLE = '<summary><span class="toctree-toggle" role="presentation">'
_NAMED = '<summary aria-label="Pages below"><span class="toctree-toggle" role="presentation">'


def finish(site: Path) -> int:
    """Changes all pages of a site in place, and counts them."""
    pages = sorted(site.rglob("*.html"))
    for page in pages:
        html = page.read_text(encoding="utf-8")
        if page == site / f"{contents.CHINESE}.html":
            html = html.replace('<html lang="en"', '<html lang="zh-CN"', 1)
        page.write_text(accessible(html), encoding="utf-8")
    return len(pages)


def accessible(html: str) -> str:
    """A page whose lists are lists, and whose toggles have a name."""

    def lines(match: re.Match[str]) -> str:
        inner = match["lines"].replace("<dd>", '<span class="parameter">')
        return f'<span class="parameters">{inner.replace("</dd>", "</span>")}</span>'

    return _PARAMETERS.sub(lines, html).replace(_TOGGLE, _NAMED)
