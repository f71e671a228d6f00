"""What makes the outputs of a notebook stale, and what does not, in a project of a few lines."""

import ast

import pytest

from tools import pairing
from tools.project import Project
from tools.syntax import canonical, cell_digest, module_digest

FILES = {
    "dinov2_helpers/__init__.py": '"""Helpers."""\n',
    "dinov2_helpers/models/__init__.py": "from .loading import load\n",
    "dinov2_helpers/models/loading.py": (
        '"""Loads."""\n\n\ndef load():\n    """Load it."""\n    from ..numbers import ONE\n\n'
        "    return ONE  # a remark\n"
    ),
    "dinov2_helpers/numbers.py": "ONE = 1\n",
    "dinov2_helpers/unused.py": "TWO = 2\n",
    "dinov2_helpers/models/hub.json": '{"revision": "abc"}\n',
    "dinov2_helpers/photographs.json": "{}\n",
    "dinov2_scale/__init__.py": "from dinov2_helpers.numbers import ONE\n",
    "dinov2_scale/sizes.json": "{}\n",
    "data/MANIFEST.sha256": "abc  one.png\n",
    "notebooks/src/01_helped.py": (
        "# %%\nfrom dinov2_helpers.models import load\n\n\n"
        'def twice():\n    """Two of it."""\n    return 2 * load()  # a remark\n\n\ntwice()\n'
    ),
    "notebooks/src/02_large.py": "# %%\nif True:\n    import dinov2_scale\n",
    "notebooks/src/03_alone.py": "# %%\n1 + 1\n",
}
HELPED, LARGE, ALONE = "01_helped", "02_large", "03_alone"


@pytest.fixture
def project(tmp_path):
    """Three notebooks whose outputs are current."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    project = Project(tmp_path, "setup")
    for stem in project.stems():
        notebook = pairing.read_source(project, stem)
        notebook.metadata["executed"] = {"sha256": pairing.fingerprint(project, notebook)}
        pairing.write_notebook(project, stem, notebook)
    assert stale(project) == []
    return project


def stale(project):
    return [stem for stem in project.stems() if pairing.is_stale(project, stem)]


def edit(project, name, old, new):
    path = project.root / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("dinov2_helpers/models/loading.py", "# a remark", "# another"),
        ("dinov2_helpers/models/loading.py", "Loads.", "Loads them."),
        ("dinov2_helpers/models/loading.py", "Load it.", "Load that."),
        ("dinov2_helpers/numbers.py", "ONE = 1\n", 'ONE = (\n    1\n)\n"""The number."""\n'),
        ("dinov2_helpers/unused.py", "2", "3"),
        ("notebooks/src/01_helped.py", "# a remark", "# another"),
        ("notebooks/src/01_helped.py", "Two of it.", "Twice that."),
    ],
)
def test_words_to_readers_and_modules_that_none_imports_leave_outputs_current(
    project, name, old, new
):
    edit(project, name, old, new)
    assert stale(project) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("dinov2_helpers/numbers.py", "1", "2", [HELPED, LARGE]),
        ("dinov2_helpers/models/loading.py", "return ONE", "return -ONE", [HELPED]),
        ("dinov2_helpers/models/__init__.py", "import load", "import load as load", [HELPED]),
        ("dinov2_helpers/__init__.py", '"""Helpers."""', "print()", [HELPED, LARGE]),
        ("dinov2_scale/__init__.py", "import ONE", "import ONE as N", [LARGE]),
        ("dinov2_helpers/models/hub.json", "abc", "def", [HELPED, LARGE]),
        ("dinov2_helpers/photographs.json", "{}", "{1: 2}", [HELPED, LARGE]),
        ("dinov2_scale/sizes.json", "{}", "[]", [LARGE]),
        ("data/MANIFEST.sha256", "abc", "def", [HELPED, LARGE, ALONE]),
        ("notebooks/src/03_alone.py", "1 + 1", "1 + 2", [ALONE]),
    ],
)
def test_other_code_or_data_makes_the_notebooks_that_use_it_stale(
    project, name, old, new, expected
):
    edit(project, name, old, new)
    assert stale(project) == expected


def test_a_module_that_comes_and_is_imported_makes_outputs_stale(project):
    (project.root / "dinov2_helpers" / "late.py").write_text("LATE = 1\n", encoding="utf-8")
    assert stale(project) == []
    edit(
        project, "dinov2_helpers/numbers.py", "ONE = 1", "from dinov2_helpers import late\nONE = 1"
    )
    assert stale(project) == [HELPED, LARGE]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "x = 2"),
        ("x = 1", "x = True"),
        ("x = 1", "x = 1.0"),
        ("x = None", "x = 'None'"),
        ("x = 'a'", "x = b'a'"),
        ("return_ = [f(), g()]", "return_ = [f()], g()"),
        ("f(a, *b)", "f(*b, a)"),
        ("def f(a, /, b): g()", "def f(a, b, /): g()"),
        ("def f(*, a=1, b): g()", "def f(*, a, b=1): g()"),
        ("f'{x}'", "f'{x!r}'"),
        ("f'{x:.2f}'", "f'{x:.3f}'"),
        ("async def f(): g()", "def f(): g()"),
        ("@a\ndef f(): g()", "def f(): g()"),
        ("del x", "x"),
        ("x = {None: 1}", "x = {**None}"),
        ("from .a import b", "from ..a import b"),
        ("x = 'text'", "'text'"),
    ],
)
def test_different_code_has_different_digests(one, other):
    assert module_digest(one.encode()) != module_digest(other.encode())
    assert cell_digest(one) != cell_digest(other)


def test_what_a_cell_shows_counts_as_what_it_does():
    assert cell_digest("plot()") != cell_digest("plot();")
    assert cell_digest("'one'") != cell_digest("'two'")
    assert cell_digest("%timeit f()") != cell_digest("%timeit g()")
    assert cell_digest("f( x )  # remark") == cell_digest("f(x)")


def test_the_digest_is_the_same_in_every_version_of_python():
    """Fields that only some versions have, or only some leave out, are empty and not there."""
    code = 'def f(a, *, b=None):\n    """Doc."""\n    return [f"{a:.2f}" "c", {}, ()]\n'
    assert canonical(ast.parse(code)) == (
        "Module(body=[FunctionDef(name='f',args=arguments(args=[arg(arg='a')],"
        "kwonlyargs=[arg(arg='b')],kw_defaults=[Constant(value=None)]),body=[Return(value=List("
        "elts=[JoinedStr(values=[FormattedValue(value=Name(id='a',ctx=Load()),conversion=-1,"
        "format_spec=JoinedStr(values=[Constant(value='.2f')])),Constant(value='c')]),Dict(),"
        "Tuple(ctx=Load())],ctx=Load()))])])"
    )
