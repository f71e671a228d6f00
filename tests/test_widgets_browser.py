"""What a reader does with the explorers, in JupyterLab and Debian's Chromium: once a week."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec

import nbformat
import pytest

from tools.lab import SETTINGS

pytestmark = pytest.mark.weekly

PATIENCE = 120_000  # milliseconds
TOKEN = "of-this-test"
WIDE = {"width": 1100, "height": 2600}  # high, for cells out of sight are not in the page

SPOT = """
import ipywidgets
import numpy as np
from PIL import Image

from dinov2_helpers import plotting
from dinov2_helpers.widgets import Explorer, Scratch, Spot


def chosen(place):
    row, column = place
    if row == 3:
        raise ValueError("not in the last row")
    grid = np.zeros((4, 4))
    grid[row, column] = 1
    return plotting.show_images([grid], alt=f"row {row}, column {column}")


Explorer(chosen, place=Spot(Image.new("RGB", (160, 160), "teal"), value=(1, 1), grid=(4, 4)))
"""
TEXT = """
def written(words):
    return plotting.show_images([np.eye(3)], titles=[words], alt=words)


Explorer(
    written,
    hint=lambda words: "What is a zebra?" if "zebra" in words else "",
    words=ipywidgets.Text("mug"),
)
"""
SCRATCH = """
def drawn(line):
    return plotting.show_images([np.eye(3)], titles=[str(line)], alt=str(line))


Explorer(drawn, line=Scratch(Image.new("RGB", (160, 160), "teal"), value=(20, 20, 60, 60)))
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab in whose folder there is one notebook with three explorers."""
    if find_spec("playwright") is None:
        pytest.skip("Playwright is not installed: pip install playwright")
    folder = tmp_path_factory.mktemp("lab")
    cells = [nbformat.v4.new_code_cell(code.strip()) for code in (SPOT, TEXT, SCRATCH)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "try.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [
        f"--ServerApp.port={port}",
        f"--IdentityProvider.token={TOKEN}",
        f"--notebook-dir={folder}",
    ]
    places = {name: str(folder / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR")}
    places["JUPYTER_CONFIG_PATH"] = str(SETTINGS)  # as `make lab` has them
    with (folder / "log").open("w", encoding="utf-8") as log:
        server = subprocess.Popen(
            command, env=os.environ | places, stdout=log, stderr=subprocess.STDOUT
        )
    address = f"http://127.0.0.1:{port}"
    for _ in range(240):
        try:
            urllib.request.urlopen(f"{address}/api", timeout=5).close()
            break
        except OSError:
            time.sleep(0.5)
    else:
        server.kill()
        pytest.fail((folder / "log").read_text(encoding="utf-8"))
    yield address, folder / "try.ipynb"
    server.terminate()
    server.wait(30)


@pytest.fixture(scope="module")
def chromium():
    """Debian's Chromium."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page(lab, chromium):
    """The notebook, open in JupyterLab, after all its cells have run."""
    opened = chromium.new_page(viewport=WIDE)
    opened.set_default_timeout(PATIENCE)
    opened.complaints = []
    opened.on("pageerror", lambda error: opened.complaints.append(str(error)))
    opened.goto(f"{lab[0]}/lab/tree/try.ipynb?reset&token={TOKEN}")
    opened.locator(".jp-Notebook").wait_for()
    opened.get_by_text("| Idle").wait_for()  # before, a run has no kernel to go to
    opened.get_by_role("menuitem", name="Run", exact=True).click()
    opened.get_by_text("Run All Cells", exact=True).click()
    opened.locator("canvas[role=application]").nth(1).wait_for()
    pictures(opened).nth(2).wait_for()
    yield opened
    opened.close()


def pictures(page):
    """The pictures of the three explorers."""
    return page.locator(".jp-OutputArea .jp-RenderedImage img")


def asked(address, method="GET"):
    """What JupyterLab's server answers."""
    headers = {"Authorization": f"token {TOKEN}"}
    request = urllib.request.Request(address, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def differs(page, number, before):
    """Wait until an explorer shows another picture, and return it."""
    page.wait_for_function(
        "([number, before]) => document.querySelectorAll("
        "'.jp-OutputArea .jp-RenderedImage img')[number].src !== before",
        arg=[number, before],
    )
    return pictures(page).nth(number).get_attribute("src")


def test_a_click_and_an_arrow_key_choose_a_cell(page):
    canvas = page.locator("canvas[role=application]").nth(0)
    assert canvas.bounding_box()["width"] == 160  # its natural size
    before = pictures(page).nth(0).get_attribute("src")
    canvas.click(position={"x": 100, "y": 20})
    clicked = differs(page, 0, before)
    assert "row 0, column 2" in canvas.get_attribute("aria-label")
    canvas.press("ArrowDown")
    differs(page, 0, clicked)
    assert "row 1, column 2" in canvas.get_attribute("aria-label")
    assert not page.complaints


def test_an_error_is_said_and_the_last_picture_stays(page):
    canvas = page.locator("canvas[role=application]").nth(0)
    before = pictures(page).nth(0).get_attribute("src")
    canvas.click(position={"x": 20, "y": 150})
    page.get_by_text("ValueError: not in the last row").first.wait_for()
    assert pictures(page).nth(0).get_attribute("src") == before
    canvas.press("ArrowUp")
    differs(page, 0, before)
    assert not page.get_by_text("Not drawn").is_visible()


def test_the_answer_follows_what_is_typed(page):
    box = page.locator(".widget-text input").first
    before = pictures(page).nth(1).get_attribute("src")
    box.fill("")
    box.press_sequentially("zebra", delay=60)
    differs(page, 1, before)
    hint = page.locator(".widget-html b", has_text="What is a zebra?")
    hint.wait_for()
    box.fill("mug")
    hint.wait_for(state="detached")


def test_a_scratch_is_drawn_by_dragging_and_moved_by_keys(page):
    canvas = page.locator("canvas[role=application]").nth(1)
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    before = pictures(page).nth(2).get_attribute("src")
    page.mouse.move(box["x"] + 10, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + 100, box["y"] + 50, steps=4)
    page.mouse.up()
    drawn = differs(page, 2, before)
    assert "from 10, 30 to 100, 50" in canvas.get_attribute("aria-label")
    canvas.press("Shift+ArrowLeft")
    differs(page, 2, drawn)
    assert "from 6, 30 to 100, 50" in canvas.get_attribute("aria-label")


def test_a_saved_notebook_keeps_what_was_drawn_last(page, lab, chromium):
    address, path = lab
    shown = [pictures(page).nth(number).get_attribute("src") for number in range(3)]
    page.locator(".jp-Notebook .jp-InputPrompt").first.click()
    page.keyboard.press("Control+s")
    alts = []
    for _ in range(60):
        outputs = [cell.outputs for cell in nbformat.read(path, as_version=4).cells]
        alts = [output.metadata for one in outputs for output in one if "image/png" in output.data]
        if len(alts) == 3:
            break
        time.sleep(0.5)
    assert json.dumps(alts[2]).count("[6, 30, 100, 50]") == 1
    for one in json.loads(asked(f"{address}/api/sessions")):
        asked(f"{address}/api/sessions/{one['id']}", "DELETE")
    again = chromium.new_context(viewport=WIDE).new_page()
    again.set_default_timeout(PATIENCE)
    again.goto(f"{address}/lab/tree/try.ipynb?reset&token={TOKEN}")
    pictures(again).nth(2).wait_for()
    kept = [pictures(again).nth(number).get_attribute("src") for number in range(3)]
    assert kept == shown
    # `make lab` saves the controls, too
    spot = again.locator("canvas[role=application]").nth(0)
    spot.wait_for()
    assert "row 2, column 0" in spot.get_attribute("aria-label")
    assert again.locator(".widget-text input").first.input_value() == "mug"
    assert not again.get_by_text("model not found").is_visible()
    again.context.close()
