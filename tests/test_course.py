import io
import logging
import sys

import pytest

from dinov2_helpers import course
from dinov2_helpers.models import about


@pytest.fixture(autouse=True)
def quiet():
    """The logger as it is in a fresh process; afterwards as it was."""
    logger = logging.getLogger("dinov2_helpers")
    before = logger.handlers[:], logger.level, logger.propagate
    logger.handlers, logger.propagate = [], True
    logger.setLevel(logging.NOTSET)
    yield
    logger.handlers, logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


def test_set_up_prints_one_line_on_what_it_runs_on(capsys):
    course.setup()
    course.setup()
    assert capsys.readouterr().out == f"{about()}\n" * 2


def test_messages_appear_once_and_as_they_are(capsys, caplog):
    course.show_messages()
    course.show_messages()
    logging.getLogger("dinov2_helpers.models").info("%d MB come", 88)
    logging.getLogger("dinov2_helpers.models").debug("not shown")
    out, err = capsys.readouterr()
    assert (out, err) == ("88 MB come\n", "")
    assert caplog.messages == []  # nothing has reached the root logger


def test_messages_go_to_the_output_of_the_moment(monkeypatch):
    course.show_messages()
    later = io.StringIO()
    monkeypatch.setattr(sys, "stdout", later)
    logging.getLogger("dinov2_helpers").info("late")
    assert later.getvalue() == "late\n"


def test_without_set_up_the_package_is_quiet(capsys):
    logging.getLogger("dinov2_helpers").info("nobody asked")
    assert capsys.readouterr() == ("", "")
