"""The machinery, tried out on a small notebook of its own, whole and broken in many ways."""

import ast
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from hatchling.builders.wheel import WheelBuilder

from dinov2_helpers import load_diffusion, load_dinov2
from dinov2_helpers.extras import need
from tools import blocks, checks, notebooks, pairing, recorded
from tools.checks import SETUP_LINES, check
from tools.execution import Costs, Execution, execute, offline_environment, strip
from tools.lift import exercise_problems, lift
from tools.page import write_pages
from tools.project import ROOT, Project
from tools.setup_cell import as_comments, setup_cell
from tools.syntax import as_python
from tools.watch import Limits

STEM = "01_small"
SETUP = 'print("ready")'
SOURCE = '''\
# ---
# jupyter:
#   jupytext:
#     notebook_metadata_filter: headline
#   headline:
#     01.answer: the answer
# ---

# %% [markdown]
# # A small notebook
#
# See that the machinery
# works.
#
# <!-- badge:begin --><!-- badge:end -->
# <!-- cost-card:begin --><!-- cost-card:end -->
#
# ![A red pixel](figures/01_small.png)

# %% [markdown]
# ## A pixel
# We **draw** a picture.

# %%
print("ready")

# %% [markdown]
# ## What the article does

# %%
import base64
import json
import os
import zlib
from pathlib import Path

from IPython.display import display

FACTOR = 2


def double(number):
    """Twice the number."""
    return FACTOR * number


# %% [markdown]
# ## 3. Where it fails, at last

# %%
answer = double(21)
file = Path(os.environ["DINOV2_RESULTS"]) / "tiny.json"
file.write_text(json.dumps({"01.answer": answer}))
answer

# %% tags=["finished-picture"]
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"
    "AAAADUlEQVR4nGP4z8BQDwAEgAF/QualzQAAAABJRU5ErkJggg=="
)
display({"image/png": PIXEL}, metadata={"image/png": {"alt": "a red pixel"}}, raw=True)

# %% [markdown]
# ## Try it
# ## Your own images
# ## Exercises

# %% tags=["exercise-1-stub"]
def treble(number):
    """Three times the number."""
    raise NotImplementedError


# %% tags=["exercise-1-check"]
try:
    assert treble(2) == double(3)
    print("Solved")
except NotImplementedError:
    print("Not solved yet")

# %% [markdown] tags=["exercise-1-solution"]
# <details>
# <summary>Solution</summary>
#
# ```python
# def treble(number):
#     return 3 * number
# ```
# </details>

# %% tags=["exercise-2-stub"]
def negate(number):
    """Minus the number."""
    raise NotImplementedError


# %% tags=["exercise-2-check"]
try:
    assert negate(2) == -2
    print("Solved")
except NotImplementedError:
    print("Not solved yet")

# %% [markdown] tags=["exercise-2-solution"]
# <details><summary>Solution</summary>
#
# ```python
# def negate(number):
#     return -number
# ```
# </details>

# %% [markdown]
# ## What you found
'''


@pytest.fixture(scope="session")
def executed(tmp_path_factory):
    """A checkout whose only notebook was executed in place."""
    root = tmp_path_factory.mktemp("checkout")
    for folder in ("notebooks/src", "data"):
        (root / folder).mkdir(parents=True)
    (root / "pyproject.toml").write_text(
        (ROOT / "pyproject.toml").read_text(encoding="utf-8"), encoding="utf-8"
    )
    (root / "data" / "MANIFEST.sha256").write_text("no data\n", encoding="utf-8")
    project = Project(root, SETUP)
    project.source(STEM).write_text(SOURCE, encoding="utf-8")
    assert notebooks.execute_stale(project) == 0
    return project


@pytest.fixture
def project(executed, tmp_path):
    """A copy of it, to be broken."""
    for path in executed.root.rglob("*"):
        if path.is_file():
            copy = tmp_path / path.relative_to(executed.root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    return Project(tmp_path, SETUP)


def test_an_executed_notebook_is_green(executed):
    assert check(executed, STEM) == []
    assert exercise_problems(pairing.read_source(executed, STEM)) == []


def test_execution_records_numbers_and_costs(executed):
    assert recorded.read(executed.results / "tiny.json") == {"01.answer": 42}
    costs = pairing.read_costs(executed)[STEM]
    assert 0 < costs["seconds"] < 60
    assert 20 < costs["peak_mb"] < 1000
    assert costs["download_mb"] == 0
    assert 0 < costs["cpu_seconds"] < 60
    assert costs["gflops"] > 0


def test_time_is_told_with_what_it_was_measured_on():
    one = {"seconds": 70.2, "cores": 1, "gflops": 113.0}
    assert pairing.time_of(one) == "70 s on 1 CPU core, 113 GFLOP/s"
    assert pairing.time_of({"seconds": 9, "cores": 2}) == "9 s on 2 CPU cores"


def test_the_title_cell_gets_badge_and_cost_card(executed):
    title = pairing.read_notebook(executed, STEM).cells[0].source
    costs = pairing.read_costs(executed)[STEM]
    assert f"| `tiny` | {pairing.time_of(costs)} | " in title
    assert "download once: nothing." in title
    assert "make wheel" in title
    assert pairing.title_and_promise(pairing.read_source(executed, STEM)) == (
        "A small notebook",
        "See that the machinery works.",
    )


def test_executing_again_does_nothing_until_something_changes(project, capsys):
    before = project.notebook(STEM).stat().st_mtime_ns
    assert notebooks.execute_stale(project) == 0
    assert capsys.readouterr().out == ""
    assert project.notebook(STEM).stat().st_mtime_ns == before


def test_words_may_change_without_execution(project):
    edit(project, "# We **draw** a picture.", "# We **draw** one picture.")
    assert any("cells are not those" in problem for problem in check(project, STEM))
    pairing.sync(project, STEM)
    assert check(project, STEM) == []


def test_an_older_set_up_cell_is_renewed_and_other_code_is_not(project):
    edit(project, SETUP, "from dinov2_helpers import course\n\ncourse.setup()")
    pairing.sync(project, STEM)
    assert project.source(STEM).read_text(encoding="utf-8") == SOURCE
    edit(project, SETUP, 'print("mine")')
    pairing.sync(project, STEM)
    assert 'print("mine")' in project.source(STEM).read_text(encoding="utf-8")


def test_sync_keeps_the_outputs_of_unchanged_cells_only(project):
    edit(project, "answer = double(21)", "answer = double(20)")
    notebook = pairing.sync(project, STEM)
    codes = {cell.source: cell for cell in notebook.cells if cell.cell_type == "code"}
    changed = next(source for source in codes if "double(20)" in source)
    assert codes[changed].outputs == []
    assert codes[SETUP].outputs[0].text == "ready\n"
    problems = " ".join(check(project, STEM))
    assert "stale" in problems and "not executed once and in order" in problems


def edit(project, old, new):
    """Changes the source, which must have the old text."""
    text = project.source(STEM).read_text(encoding="utf-8")
    assert old in text
    project.source(STEM).write_text(text.replace(old, new), encoding="utf-8")


def code_cell(notebook, text):
    return next(c for c in notebook.cells if c.cell_type == "code" and text in c.source)


def drop_alt(notebook):
    code_cell(notebook, "PIXEL").outputs[0].metadata = {}


def drop_alt_in_html(notebook):
    output = code_cell(notebook, "PIXEL").outputs[0]
    output.data = {"text/html": f'<img src="data:image/png;base64,{output.data["image/png"]}">'}


def show_path(notebook):
    code_cell(notebook, "answer =").outputs[0].data["text/plain"] = "'/somewhere/else/x.png'"


def show_windows_path(notebook):
    code_cell(notebook, "ready").outputs[0].text = r"reading C:\pictures\x.png"


def warn(notebook):
    output = nbformat.v4.new_output("stream", name="stderr", text="FutureWarning: soon")
    code_cell(notebook, "ready").outputs.append(output)


def fail(notebook):
    output = nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])
    code_cell(notebook, "ready").outputs.append(output)


def add_widget_state(notebook):
    notebook.metadata["widgets"] = {}


def enlarge_picture(notebook):
    code_cell(notebook, "PIXEL").outputs[0].data["image/png"] = "A" * 400_000


def enlarge_notebook(notebook):
    code_cell(notebook, "ready").outputs[0].text = "word " * 500_000


def execute_out_of_order(notebook):
    code_cell(notebook, "answer =").execution_count = 17


def edit_the_notebook_only(notebook):
    notebook.cells[1].source += "\n- **Write** by hand."


@pytest.mark.parametrize(
    ("breaks", "complaint"),
    [
        (drop_alt, "without alt text"),
        (drop_alt_in_html, "without alt text"),
        (show_path, "absolute path"),
        (show_windows_path, "absolute path"),
        (warn, "stderr"),
        (fail, "ended in ValueError"),
        (add_widget_state, "metadata.widgets"),
        (enlarge_picture, "a picture of 300,000 bytes"),
        (enlarge_notebook, "the notebook has"),
        (execute_out_of_order, "not executed once and in order"),
        (edit_the_notebook_only, "cells are not those of its source"),
    ],
)
def test_a_bad_notebook_turns_the_check_red(project, breaks, complaint):
    notebook = pairing.read_notebook(project, STEM)
    breaks(notebook)
    nbformat.write(notebook, project.notebook(STEM))
    # Whatever changes the picture is told twice: it is no longer the finished one either.
    told_twice = ("'finished-picture' has drawn a picture", "is not the picture in the notebook")
    problems = [p for p in check(project, STEM) if not any(text in p for text in told_twice)]
    assert len(problems) == 1
    assert complaint in problems[0]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("## What you found", "## The end", "`## What you found` is missing"),
        ("## Try it", "## Measured", "`## Try it` is missing"),
        ("# ## Try it\n# ## Your own", "# ## Your own images\n# ## Try", "missing or out of order"),
        ('print("ready")', 'print("steady")', "not the set-up cell"),
        ("<!-- badge:begin --><!-- badge:end -->", "", "generated blocks"),
        ("![A red pixel](figures/01_small.png)", "", "must show the finished picture"),
        ('["finished-picture"]', "[]", "'finished-picture' has drawn a picture"),
        ('["exercise-1-solution"]', "[]", "exercise 1 must have its stub, check and solution"),
        ("    raise NotImplementedError\n", "    pass\n", "must raise NotImplementedError"),
        ("# ```python", "# ```", "needs a solution"),
        ("#   headline:\n#     01.answer: the answer\n", "", "must have `headline`"),
    ],
)
def test_a_bad_source_turns_the_check_red(project, old, new, complaint):
    edit(project, old, new)
    pairing.sync(project, STEM)
    assert complaint in " ".join(check(project, STEM))


def test_other_data_make_outputs_stale(project):
    (project.root / "data" / "MANIFEST.sha256").write_text("other data\n", encoding="utf-8")
    (problem,) = check(project, STEM)
    assert "stale" in problem


def test_the_finished_picture_is_the_one_in_the_notebook(project):
    figure = pairing.figure_path(project, STEM, "image/png")
    assert figure.read_bytes().startswith(b"\x89PNG")
    figure.write_bytes(b"another picture")
    (problem,) = check(project, STEM)
    assert "is not the picture in the notebook" in problem


def test_costs_have_limits(project):
    recorded.write(
        project.results / "costs.json",
        {STEM: {"seconds": 182, "peak_mb": 2501, "cores": 2, "gflops": 80}},
    )
    pairing.sync(project, STEM)
    assert check(project, STEM) == [
        "it took 182 s at 80 GFLOP/s, which are 46 s at 320, more than 45",
        "it took 2,501 MB, more than 2,500",
    ]


def test_a_lesson_has_less_time_than_its_evidence(project):
    costs = {"seconds": 60, "peak_mb": 2000, "cores": 2, "gflops": 320}
    stems = (STEM, f"evidence/{STEM}")
    recorded.write(project.results / "costs.json", dict.fromkeys(stems, costs))
    source = project.source(stems[1])
    source.parent.mkdir()
    source.write_text(project.source(STEM).read_text(encoding="utf-8"), encoding="utf-8")
    (problem,) = checks.costs(project, STEM)
    assert problem.endswith("more than 45")
    assert list(checks.costs(project, stems[1])) == []


def test_a_slow_machine_does_not_make_a_notebook_costly(project):
    costs = {"seconds": 280, "peak_mb": 2000, "cores": 2, "gflops": 50}
    recorded.write(project.results / "costs.json", {STEM: costs})
    pairing.sync(project, STEM)
    assert check(project, STEM) == []


def test_a_notebook_that_fails_is_left_as_it_was(project, capsys):
    before = project.notebook(STEM).read_bytes(), (project.results / "tiny.json").read_bytes()
    edit(project, "FACTOR = 2", "FACTOR = None")
    results = project.root / "elsewhere"
    execution = execute(project, STEM, results)
    assert execution.error is not None and execution.error.startswith("TypeError")
    pairing.write_notebook(project, STEM, execution.notebook)
    assert "ended in TypeError" in " ".join(check(project, STEM))
    project.notebook(STEM).write_bytes(before[0])
    assert (project.results / "tiny.json").read_bytes() == before[1]


def test_a_hanging_cell_is_an_error(project):
    edit(project, "FACTOR = 2", "import time\n\ntime.sleep(60)")
    execution = execute(project, STEM, project.root / "elsewhere", limits=Limits(2, 60))
    assert execution.error is not None and "no CPU time used for 2 s" in execution.error


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("# def negate(number):\n#     return -number", "# def negate(number):\n#     return 1",
         "on its solution the check ends as 'AssertionError'"),
        ("assert negate(2) == -2", "negate(2)", "on a wrong answer the check ends as 'solved'"),
        ("assert negate(2) == -2", "pass", "on its stub the check ends as 'solved'"),
        ("assert treble(2) == double(3)", "assert treble(2) == answer", "'NameError'"),
    ],
)  # fmt: skip
def test_a_bad_exercise_is_found(project, old, new, complaint):
    edit(project, old, new)
    assert complaint in " ".join(exercise_problems(pairing.read_source(project, STEM)))


def test_functions_are_lifted_without_running_the_notebook(project):
    namespace = lift(pairing.read_source(project, STEM), "double")
    assert namespace["double"](4) == 8
    assert "answer" not in namespace and "base64" not in namespace


def test_blocks_are_filled_and_emptied():
    text = "a\n<!-- x:begin --><!-- x:end -->\nb"
    filled = blocks.fill(text, {"x": "new"})
    assert filled == "a\n<!-- x:begin -->\n\nnew\n\n<!-- x:end -->\nb"
    assert blocks.fill(filled, {"x": "new"}) == filled
    assert blocks.empty(filled) == text
    with pytest.raises(KeyError):
        blocks.fill(text, {})


def test_results_are_compared_with_a_tolerance(tmp_path):
    committed, fresh = tmp_path / "committed", tmp_path / "fresh"
    recorded.write(committed / "tiny.json", {"01.a": 0.8, "01.b_seconds": 3, "01.c": 7, "01.d": 1})
    recorded.write(fresh / "tiny.json", {"01.a": 0.82, "01.b_seconds": 9, "01.c": 8, "01.e": 1})
    recorded.write(committed / "tiny_claims.json", {"01.x": {"verdict": "holds", "measured": "1"}})
    recorded.write(fresh / "tiny_claims.json", {"01.x": {"verdict": "holds", "measured": "2"}})
    assert recorded.differences(committed, fresh, "tiny") == [
        "tiny.json: 01.c was 7, is now 8",
        "tiny.json: 01.d is no longer recorded",
        "tiny.json: 01.e is not committed",
    ]
    recorded.write(fresh / "tiny.json", recorded.read(committed / "tiny.json"))
    assert recorded.differences(committed, fresh, "tiny") == []
    recorded.write(fresh / "tiny_claims.json", {"01.x": {"verdict": "does not hold"}})
    assert recorded.differences(committed, fresh, "tiny") == [
        "tiny_claims.json: 01.x was holds, is now does not hold"
    ]


def test_a_notebook_replaces_its_own_results_only(tmp_path):
    committed, fresh = tmp_path / "committed", tmp_path / "fresh"
    recorded.write(committed / "tiny.json", {"01.gone": 1, "01.kept": 2, "02.other": 3})
    recorded.write(fresh / "tiny.json", {"01.kept": 4})
    recorded.merge("01_small", fresh, committed, "tiny")
    assert recorded.read(committed / "tiny.json") == {"01.kept": 4, "02.other": 3}


@pytest.fixture
def results(tmp_path):
    """Committed numbers and claims of a lesson, its evidence and another lesson."""
    committed = tmp_path / "committed"
    recorded.write(committed / "tiny.json", {"01.of_lesson": 1, "01.of_evidence": 2, "02.other": 3})
    recorded.write(committed / "tiny_claims.json", {"01.claim": {"verdict": "holds"}})
    numbers = {"01.of_lesson": LESSON, "01.of_evidence": EVIDENCE, "02.other": "02_other"}
    owners = {"tiny.json": numbers, "tiny_claims.json": {"01.claim": EVIDENCE}}
    recorded.write(committed / recorded.OWNERS, owners)
    return committed


LESSON, EVIDENCE = "01_small", "evidence/01_small"


def merge(results, stem, numbers, claims=None):
    fresh = results.parent / "fresh"
    recorded.write(fresh / "tiny.json", numbers)
    recorded.write(fresh / "tiny_claims.json", claims or {})
    recorded.merge(stem, fresh, results, "tiny")
    return [recorded.read(results / name) for name in recorded.files("tiny")]


def test_a_lesson_and_its_evidence_keep_what_the_other_has_recorded(results):
    numbers, claims = merge(results, LESSON, {"01.of_lesson": 5})
    assert numbers == {"01.of_lesson": 5, "01.of_evidence": 2, "02.other": 3}
    assert claims == {"01.claim": {"verdict": "holds"}}
    numbers, claims = merge(results, EVIDENCE, {"01.of_evidence": 6})
    assert numbers == {"01.of_lesson": 5, "01.of_evidence": 6, "02.other": 3}
    assert claims == {}


def test_a_key_that_two_notebooks_record_is_refused_and_nothing_is_written(results):
    def content():
        return {path.name: path.read_text(encoding="utf-8") for path in results.iterdir()}

    before = content()
    with pytest.raises(
        ValueError, match=r"evidence/01_small records 01\.of_lesson, which 01_small"
    ):
        merge(results, EVIDENCE, {"01.of_lesson": 7})
    with pytest.raises(ValueError, match=r"01_small records 01\.claim, which evidence/01_small"):
        merge(results, LESSON, {"01.of_lesson": 8}, {"01.claim": {"verdict": "holds"}})
    assert content() == before


def test_a_key_moves_from_a_lesson_to_its_evidence(results):
    merge(results, LESSON, {})
    numbers, _ = merge(results, EVIDENCE, {"01.of_evidence": 2, "01.of_lesson": 9})
    assert numbers == {"01.of_lesson": 9, "01.of_evidence": 2, "02.other": 3}
    owners = recorded.read(results / recorded.OWNERS)["tiny.json"]
    assert owners == {"01.of_lesson": EVIDENCE, "01.of_evidence": EVIDENCE, "02.other": "02_other"}


def test_where_nobody_knows_the_owner_the_number_says_it(results):
    (results / recorded.OWNERS).unlink()
    numbers, claims = merge(results, EVIDENCE, {"01.of_evidence": 4})
    assert numbers == {"01.of_evidence": 4, "02.other": 3} and claims == {}
    owners = recorded.read(results / recorded.OWNERS)
    assert owners["tiny.json"] == {"01.of_evidence": EVIDENCE}


def test_widgets_leave_their_picture_and_progress_bars_nothing():
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}}
    bar = nbformat.v4.new_output("display_data", data=view | {"text/plain": "HBox()"})
    explorer = nbformat.v4.new_output("display_data", data=view | {"image/png": "AAAA"})
    cell = nbformat.v4.new_code_cell("x", outputs=[bar, explorer])
    strip(nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {}}))
    assert [output.data for output in cell.outputs] == [{"image/png": "AAAA"}]


def test_the_network_is_blocked_but_loopback_is_not(tmp_path):
    script = """
import socket, sys
server = socket.create_server(("127.0.0.1", 0))
with socket.create_connection(server.getsockname(), timeout=5):
    print("loopback")
for attempt in (
    lambda: socket.create_connection(("192.0.2.1", 80), timeout=60),
    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53)),
    lambda: socket.getaddrinfo("example.org", 443),
    lambda: socket.gethostbyname("example.org"),
):
    try:
        attempt()
    except OSError as error:
        print(type(error).__name__)
"""
    run = subprocess.run(
        [sys.executable, "-c", script],
        env=offline_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert run.stdout.split() == ["loopback"] + ["NetworkBlockedError"] * 4


def test_a_notebook_runs_behind_the_block(project):
    edit(project, "FACTOR = 2", 'import socket\n\nsocket.create_connection(("192.0.2.1", 80))')
    execution = execute(project, STEM, project.root / "elsewhere")
    assert execution.error is not None and execution.error.startswith("NetworkBlockedError")


def test_nbmake_passes_and_numbers_are_compared(project, capfd):
    recorded.write(project.results / "tiny.json", {"01.answer": 43.5})
    assert notebooks.test(project) == 1
    output = capfd.readouterr().out
    assert "1 passed" in output
    assert "tiny.json: 01.answer was 43.5, is now 42" in output


def test_a_notebook_that_is_weekly_runs_then_and_only_then(project, capfd):
    settings = project.root / "pyproject.toml"
    text = settings.read_text(encoding="utf-8")
    (line,) = re.findall(r"^weekly_notebooks = .*$", text, re.MULTILINE)
    settings.write_text(text.replace(line, f'weekly_notebooks = ["{STEM}"]'), encoding="utf-8")
    project = Project(project.root, SETUP)
    with pytest.raises(SystemExit, match="no notebook"):
        notebooks.test(project)
    assert notebooks.test(project, weekly=True) == 0
    assert "1 passed" in capfd.readouterr().out


def test_only_what_ran_is_compared(tmp_path):
    recorded.write(tmp_path / "committed" / "tiny.json", {"01.a": 1, "02.b": 2})
    owners = {"tiny.json": {"01.a": "01_small", "02.b": "02_other"}}
    recorded.write(tmp_path / "committed" / "owners.json", owners)
    recorded.write(tmp_path / "fresh" / "tiny.json", {"01.a": 5})
    folders = (tmp_path / "committed", tmp_path / "fresh", "tiny")
    assert recorded.differences(*folders, ["01_small"]) == ["tiny.json: 01.a was 1, is now 5"]
    assert len(recorded.differences(*folders)) == 2


def test_the_weekly_notebooks_are_evidence():
    project = Project()
    assert set(project.settings["weekly_notebooks"]) < set(project.evidence())


def test_nbmake_fails_where_a_notebook_does(project):
    edit(project, "FACTOR = 2", "FACTOR = None")
    pairing.sync(project, STEM)
    assert notebooks.test(project) == 1


def test_there_must_be_notebooks_to_test(tmp_path):
    settings = "[tool.dinov2-in-practice]\nweekly_notebooks = []\n"
    (tmp_path / "pyproject.toml").write_text(settings, encoding="utf-8")
    with pytest.raises(SystemExit, match="no notebook sources"):
        notebooks.test(Project(tmp_path, SETUP))


def test_run_writes_pages_that_load_nothing(project):
    assert notebooks.run(project) == 0
    index = (project.build / "index.html").read_text(encoding="utf-8")
    page = (project.build / f"{STEM}.html").read_text(encoding="utf-8")
    for html, alts in ((index, ["a red pixel"]), (page, ["A red pixel", "a red pixel"])):
        document = BeautifulSoup(html, "html.parser")
        assert [image["alt"] for image in document.find_all("img")] == alts
        assert all(image["src"].startswith("data:") for image in document.find_all("img"))
        assert not document.find_all(["script", "link", "iframe"])
        assert not re.search(r"url\(|@import", html)
    assert f'<a href="{STEM}.html">A small notebook</a>' in index
    assert "See that the machinery works." in index
    assert '<span class="headline">42.000</span>' in index


def test_the_index_says_which_notebook_failed(project):
    notebook = pairing.read_notebook(project, STEM)
    bad = Execution(STEM, notebook, Costs(1, 1, 0, 2, 1), "ValueError: <no>")
    assert "ValueError: &lt;no&gt;" in write_pages(project, [bad], {}).read_text(encoding="utf-8")


@pytest.mark.parametrize("repository", ["", "some-owner/a-repository-with-a-long-name"])
def test_the_set_up_cell_is_valid_and_short(repository, tmp_path):
    code = setup_cell(f"git+https://github.com/{repository}" if repository else "")
    ast.parse(as_python(code))
    ast.parse(as_comments(code))
    assert len([line for line in code.splitlines() if line]) <= SETUP_LINES
    assert max(map(len, as_comments(code).splitlines())) <= 100
    assert ("github.com" in code) == bool(repository)


def built(version, folder):
    """Names in the wheel of this checkout, and its path."""
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=[version])
    return set(zipfile.ZipFile(wheel).namelist()), wheel


def test_the_wheel_carries_the_data_and_works_elsewhere(tmp_path):
    names, wheel = built("standard", tmp_path)
    data = [path for path in (ROOT / "data").rglob("*") if path.is_file()]
    assert data
    assert {f"dinov2_helpers/{path.relative_to(ROOT).as_posix()}" for path in data} <= names
    assert {name.split("/")[0].split("-")[0] for name in names} == {
        "dinov2_helpers",
        "dinov2_scale",
        "dinov2_in_practice",
    }
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    script = "import dinov2_helpers as d; print(d.data_dir() / 'MANIFEST.sha256')"
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    )
    manifest = Path(run.stdout.strip())
    assert manifest.is_relative_to(tmp_path) and manifest.is_file()


def test_an_editable_install_reads_the_data_of_the_checkout(tmp_path):
    names, _ = built("editable", tmp_path)
    assert not any("data/" in name for name in names)


def imported(folder):
    """Top-level names of the packages that the code in a folder imports."""
    found = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(node.module.split(".")[0])
    own = {path.name for path in ROOT.iterdir() if path.is_dir()}
    own |= {path.stem for path in (ROOT / folder).glob("*.py")}
    own.add("google")  # Colab's own, which the set-up cell imports there
    own.add("tomllib")  # Python's own from 3.11 on
    return found - set(sys.stdlib_module_names) - own


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("dinov2_helpers", ["openvino", "heif", "scale", "course"]),
        ("dinov2_scale", ["scale"]),
        ("notebooks/src", ["course"]),
        ("benchmarks", ["course"]),
        ("training", ["train", "course"]),
        ("tools", ["test", "course", "site"]),
        ("tests", ["test", "train", "scale", "course", "browser"]),
    ],
)
def test_every_package_that_is_imported_is_asked_for(folder, extras):
    project = Project().pyproject["project"]
    lines = [*project["dependencies"]]
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    distributions = {re.match(r"[\w-]+", line)[0].lower() for line in lines}
    other_names = {"PIL": "pillow", "bs4": "beautifulsoup4", "faiss": "faiss-cpu",
                   "skimage": "scikit-image", "sklearn": "scikit-learn", "yaml": "pyyaml",
                   "IPython": "ipywidgets", "traitlets": "ipywidgets"}  # fmt: skip
    missing = {
        name
        for name in imported(folder)
        if other_names.get(name, name.replace("_", "-")).lower() not in distributions
    }
    assert not missing


def test_a_helper_without_docstring_is_an_error(tmp_path):
    file = tmp_path / "helper.py"
    file.write_text('"""A module."""\n\n\ndef public() -> None:\n    pass\n', encoding="utf-8")
    ruff = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--no-cache",
        "--config",
        ROOT / "pyproject.toml",
    ]
    run = subprocess.run([*ruff, file], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "D103" in run.stdout


def test_ci_runs_the_test_command_of_the_readme():
    assert "make test" in (ROOT / "README.md").read_text(encoding="utf-8")
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "set -euo pipefail" in script and "make test" in script
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch):
    need("torch", "course", "This")
    with pytest.raises(ModuleNotFoundError, match=r"This needs no_such_thing: .*\[course\]"):
        need("no_such_thing", "course", "This")
    monkeypatch.setattr("dinov2_helpers.extras.find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match=r"A diffusion model needs diffusers"):
        load_diffusion("tiny")
    with pytest.raises(ModuleNotFoundError, match=r"openvino"):
        load_dinov2("tiny", backend="openvino")
