"""What readers run names its encodings and needs nothing that Windows lacks."""

import ast

import pytest

from tools.project import ROOT

FOLDERS = ("dinov2_helpers", "dinov2_scale", "tools", "training", "benchmarks")
NOT_ON_WINDOWS = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios"}
# functions of os that Windows has not
OF_POSIX = {
    *("chown", "fork", "forkpty", "getegid", "geteuid", "getgid", "getpgid", "getuid", "killpg"),
    *("mkfifo", "nice", "sched_getaffinity", "sched_setaffinity", "setgid", "setsid", "setuid"),
    "uname",
}
FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
TESTS = sorted((ROOT / "tests").glob("*.py"))


def name_of(function):
    return getattr(function, "attr", getattr(function, "id", ""))


def in_text(call):
    """Whether a call opens a file as text without naming the encoding."""
    name = name_of(call.func)
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    if "encoding" in keywords:
        return False
    if name in {"read_text", "write_text"}:
        return len(call.args) < (1 if name == "read_text" else 2)
    if name not in {"open", "fdopen"} or None in keywords:
        return False
    owner = getattr(getattr(call.func, "value", None), "id", "")
    if owner in {"Image", "webbrowser"}:
        return False
    # Path.open has no path among its arguments; open, os.fdopen and io.open have
    place = 0 if isinstance(call.func, ast.Attribute) and owner not in {"io", "os"} else 1
    mode = keywords.get("mode", call.args[place] if len(call.args) > place else None)
    if mode is None:
        return True
    return isinstance(mode, ast.Constant) and "b" not in str(mode.value)


def without_encoding(code):
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    return [call.lineno for call in calls if in_text(call)]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("path.read_text()", True),
        ('path.read_text("utf-8")', False),
        ('path.read_text(encoding="utf-8")', False),
        ("path.write_text(text)", True),
        ('path.write_text(text, encoding="utf-8")', False),
        ("open(name)", True),
        ('open(name, "w")', True),
        ('open(name, "rb")', False),
        ('open(name, encoding="utf-8")', False),
        ("path.open()", True),
        ('path.open("wb")', False),
        ('os.fdopen(number, "wb")', False),
        ("Image.open(file)", False),
    ],
)
def test_what_opens_a_text_without_its_encoding(line, found):
    assert bool(without_encoding(line)) == found


def test_every_text_is_opened_with_its_encoding():
    missing = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in [*FILES, *TESTS, ROOT / "hatch_build.py"]
        for line in without_encoding(path.read_text(encoding="utf-8"))
    ]
    assert missing == []


def at_import(tree):
    """The statements that run when a module is imported."""
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
            waiting += [
                child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)
            ]


def imported(node):
    if isinstance(node, ast.Import):
        return {alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        return {node.module.partition(".")[0]}
    return set()


@pytest.mark.parametrize(
    "path", [*FILES, *TESTS], ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_nothing_that_windows_lacks_is_imported_with_a_module(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {name for node in at_import(tree) for name in imported(node)}
    assert found & NOT_ON_WINDOWS == set()


def test_functions_that_windows_lacks_are_asked_for_first():
    missing = []
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            if (
                isinstance(node, ast.Attribute)
                and node.attr in OF_POSIX
                and getattr(node.value, "id", "") == "os"
                and f'hasattr(os, "{node.attr}")' not in text
            ):
                missing.append(f"{path.relative_to(ROOT)}:{node.lineno} os.{node.attr}")
    assert missing == []
