"""A Sphinx extension that draws formulas as MathML, which browsers know without a script."""

from typing import Any

from latex2mathml.converter import convert


def inline(translator: Any, node: Any) -> None:
    """Writes a formula in a line."""
    from docutils import nodes  # which is there where Sphinx is

    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def block(translator: Any, node: Any) -> None:
    """Writes a formula on a line of its own, which can be scrolled where it is too wide."""
    from docutils import nodes

    formula = convert(node.astext(), display="block")
    translator.body.append(f'<div class="formula" tabindex="0">{formula}</div>\n')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Offers the renderer to Sphinx."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
