"""A Sphinx extension that reads docstrings as this project writes them."""

import ast
import inspect
import re
import textwrap
from typing import Any

# NDArray[np.float32], as annotations are spelt out
_ARRAY = re.compile(
    r"~?numpy\.ndarray\[~?tuple\[~?typing\.Any, \.\.\.\], ~?numpy\.dtype\[~?(?P<kind>[\w.]+)\]\]"
)
_BAR = re.compile(r"(`[^`]*`)|(\|)")


def resolve(app: Any, env: Any, node: Any, content: Any) -> Any:
    """A link to the one public name that ends so, wherever it is defined."""
    if node.get("refdomain") != "py":
        return None
    last = node["reftarget"].rpartition(".")[2]
    domain = env.get_domain("py")
    public = [
        (name, entry)
        for name, entry in domain.objects.items()
        if name.rpartition(".")[2] == last
        and name.rpartition(".")[0] in env.config.public_modules
        and not entry.aliased
    ]
    if len(public) != 1:
        return None
    from sphinx.util.nodes import make_refnode  # the rest of this module needs no Sphinx

    name, entry = public[0]
    return make_refnode(
        app.builder, node["refdoc"], entry.docname, entry.node_id, content.deepcopy(), name
    )


def shorten(
    app: Any,
    what: str,
    name: str,
    value: Any,
    options: Any,
    signature: str | None,
    result: str | None,
) -> tuple[str | None, str | None]:
    """The signature with arrays named as the code names them."""
    return with_short_arrays(signature), with_short_arrays(result)


def with_short_arrays(text: str | None) -> str | None:
    """The text with `NDArray[float32]` where it spells that out."""
    if text is None:
        return None
    return _ARRAY.sub(lambda match: f"NDArray[{match['kind'].rpartition('.')[2]}]", text)


def prepare(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Changes the lines of a docstring before napoleon reads them."""
    if what == "data":  # the docstring of its type
        lines.clear()
    if what == "class" and not has_sections(lines):
        lines.extend(commented_fields(value))
    for number, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            lines[number] = without_substitutions(line)


def has_sections(lines: list[str]) -> bool:
    """Whether a docstring describes what a class is made of."""
    return any(line.strip() in ("Args:", "Attributes:") for line in lines)


def without_substitutions(line: str) -> str:
    """The line with bars that are absolute values, and not names of substitutions."""
    return _BAR.sub(lambda match: match[1] or r"\|", line)


def commented_fields(cls: type) -> list[str]:
    """A section of the fields whose meaning is said by a comment behind them."""
    try:
        source = textwrap.dedent(inspect.getsource(cls))
    except (OSError, TypeError):
        return []
    written = source.splitlines()
    fields = []
    for statement in ast.parse(source).body[0].body:  # type: ignore[attr-defined]
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            _, _, comment = written[statement.end_lineno - 1].partition("  # ")  # type: ignore[operator]
            if comment and not statement.target.id.startswith("_"):
                fields.append(f"    {statement.target.id}: {comment}")
    return ["", "Attributes:", *fields] if fields else []


def setup(app: Any) -> dict[str, bool]:
    """Connects all to Sphinx, the docstrings before napoleon."""
    app.add_config_value("public_modules", [], "env", types=[list])
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-signature", shorten)
    app.connect("autodoc-process-docstring", prepare, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
