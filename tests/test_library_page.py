"""The snippets of docs/library.md run as they stand, and the examples in docstrings are true."""

import doctest
import importlib
import logging
import pkgutil
import re

import pytest

import dinov2_helpers.techniques
from tools.project import ROOT

PAGE = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^## (.*?)\n.*?^```python\n(.*?)^```", PAGE, re.M | re.S)
MODULES = [
    "dinov2_helpers.measure",
    *(
        f"dinov2_helpers.techniques.{module.name}"
        for module in pkgutil.iter_modules(dinov2_helpers.techniques.__path__)
    ),
]


def test_every_object_has_its_ten_lines():
    for name in dinov2_helpers.techniques.__all__:
        if hasattr(getattr(dinov2_helpers.techniques, name), "fit"):
            assert re.search(rf"\b{name}\b", PAGE), name
    assert len(SNIPPETS) == 8


@pytest.mark.parametrize(("title", "code"), SNIPPETS, ids=[title for title, _ in SNIPPETS])
def test_a_snippet_runs(title, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, title, "exec"), {})


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_are_true(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger("dinov2_helpers"), "disabled", True)
    module = importlib.import_module(name)
    names = vars(importlib.import_module("dinov2_helpers")) | vars(module)
    assert doctest.testmod(module, extraglobs=names).failed == 0
