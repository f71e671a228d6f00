"""What the guides measure, on a notebook whose numbers can be counted by hand."""

import pytest
from nbformat import v4

from tools import guides
from tools.project import Project

TEXT = """\
# One two

Three [four](https://example.org/five) <b>six</b>.

```python
not_counted = 1
```
<!-- nor this -->
"""
CODES = [
    "# a remark\n\nx = 1",
    "def f(a):\n    return a + 1\n\n\nf(x)",
    "!pip list\n%timeit f(x)\nx",
]


@pytest.fixture
def notebook():
    return v4.new_notebook(cells=[v4.new_markdown_cell(TEXT), *map(v4.new_code_cell, CODES)])


def test_exact_measures(notebook):
    found = guides.guide(notebook, {"seconds": 12.5})
    assert found.cells == 4
    assert found.code_lines == 1 + 3 + 3
    assert found.words == 5
    assert (found.median_cell, found.longest_cell) == (3, 3)
    # x = 1: Module, Assign, Name, Constant. The function: Module, FunctionDef, arguments, arg,
    # Return, BinOp, Name, Add, Constant; its call: Expr, Call, Name, Name. Commands are `pass`:
    # Module, Pass, Pass, Expr, Name.
    assert found.nodes_a_line == pytest.approx((4 + 13 + 5) / 7)
    assert found.minutes == pytest.approx(5 / 150 + 7 / 12)
    assert found.seconds == 12.5


def test_what_was_not_measured_is_left_out(notebook):
    assert guides.guide(notebook, {}).seconds is None


def test_the_report_has_a_line_for_each_notebook():
    project = Project()
    head, *lines = guides.report(project).splitlines()
    assert head.split()[:3] == ["notebook", "cells", "lines"]
    assert [line.split()[0] for line in lines] == project.stems()
    assert {len(line) for line in lines} == {len(head)}
