"""tools.rehearse: the folder that it gives the sections "Your own images", and how they get it."""

import ast
from pathlib import Path

import pytest
from nbformat import v4

from dinov2_helpers.models import PROFILES
from dinov2_helpers.pictures import ImageError, iter_images, open_image
from dinov2_helpers.techniques.inspection import read_layout
from tools import pairing
from tools.execution import Costs, Execution
from tools.project import Project
from tools.rehearse import own_pictures, plan, rehearse, replacements

PROJECT = Project()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rehearse") / "own pictures"
    folder.mkdir()
    (folder / "left over.png").touch()
    own_pictures(folder)
    return folder


def opened(folder):
    """The pictures of a folder by relative path, and the paths of those that cannot be read."""
    pictures, broken = {}, set()
    for path in iter_images(folder):
        name = path.relative_to(folder).as_posix()
        try:
            pictures[name] = open_image(path)
        except ImageError:
            broken.add(name)
    return pictures, broken


def test_some_pictures_cannot_be_read_and_the_others_can(folder):
    pictures, broken = opened(folder)
    assert broken == {"00 empty.png", "truncated.jpg", "parts/mug/train/good/broken.png"}
    assert len(pictures) > 60 and all(image.mode == "RGB" for image in pictures.values())
    assert (folder / "notes.txt").exists()


def test_formats_sizes_and_places_are_mixed(folder):
    pictures, _ = opened(folder)
    own = {name: image for name, image in pictures.items() if not name.startswith("parts/")}
    suffixes = {Path(name).suffix for name in own}
    assert suffixes == {".jpg", ".png", ".webp", ".bmp", ".tif", ".gif", ".JPEG"}
    assert len({image.size for image in own.values()}) > 8
    assert {str(Path(name).parent) for name in own} == {".", "holiday 2024", "holiday 2024/süß"}
    assert own["holiday 2024/süß/animated.gif"].info["frames"] == 2


def test_parts_are_in_the_layout_of_inspection_and_one_is_broken(folder):
    layout = read_layout(folder / "parts" / "mug")
    assert len(layout.train) == 6 or len(layout.train) == 7  # one of all pictures is broken
    assert set(layout.flaws) < set(layout.kinds)
    assert None in layout.masks
    broken = [path for path in [*layout.train, *layout.test] if path.name == "broken.png"]
    assert len(broken) == 1


@pytest.mark.parametrize("stem", PROJECT.lessons())
def test_one_line_of_each_lesson_is_replaced(folder, stem):
    cells = pairing.read_source(PROJECT, stem).cells
    before = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    after = before
    for old, new in replacements(folder).items():
        after = after.replace(old, new)
    pairs = list(zip(before.splitlines(), after.splitlines(), strict=True))
    changed = {}
    for old, new in pairs:
        if old != new:
            (assignment,) = ast.parse(new.strip()).body
            changed[assignment.targets[0].id] = Path(ast.literal_eval(assignment.value))
    if stem.startswith("06"):
        assert sorted(changed) == ["GOOD", "NEW"]
        assert changed["GOOD"].parents[1] == changed["NEW"].parent == folder / "parts" / "mug"
        assert all(path.is_dir() for path in changed.values())
    elif stem.startswith("07"):
        assert list(changed) == ["TARGET"]
        assert changed["TARGET"].parent == folder
        assert open_image(changed["TARGET"]).mode == "RGB"
    else:
        assert changed == {"FOLDER": folder}


def test_the_notebooks_to_rehearse_are_named_by_how_they_begin():
    assert PROJECT.chosen([]) == PROJECT.stems()
    assert PROJECT.chosen(["01"]) == ["01_feature_space"]
    names = ["evidence/01", "06"]
    assert PROJECT.chosen(names) == ["evidence/01_feature_space", "06_anomaly_detection"]
    with pytest.raises(SystemExit, match="no notebook begins with '99'"):
        PROJECT.chosen(["99"])


def test_evidence_is_rehearsed_beside_the_lessons(tmp_path, monkeypatch, capsys):
    (tmp_path / "pyproject.toml").touch()
    project = Project(tmp_path)
    costs = Costs(seconds=3, peak_mb=4, download_mb=0, cores=2, cpu_seconds=3)

    def execute(project, stem, results, changes, limits):
        return Execution(stem, v4.new_notebook(), costs, None)

    monkeypatch.setattr("tools.rehearse.execute", execute)
    monkeypatch.setattr("tools.rehearse.own_pictures", lambda folder: None)
    for name in ("DINOV2_PROFILE", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, "")  # so that what is set is undone
    assert rehearse(project, "tiny", ["01_small", "evidence/01_small"], own=False) == 0
    assert capsys.readouterr().out.splitlines() == [
        "tiny, 01_small: ok, 3 s, 4 MB",
        "tiny, evidence/01_small: ok, 3 s, 4 MB",
    ]
    assert (project.build / "rehearsal" / "tiny" / "evidence" / "01_small.ipynb").is_file()


def test_shapes_are_one_lesson_each_or_those_that_are_named():
    assert plan("small", ["01"]) == {"small": ["01"]}
    assert plan("small", []) == {"small": []}
    each = plan("shapes", [])
    assert [*each] == ["small", "base", "base-with-registers", "dinov3-small", "siglip2-base"]
    assert set(each) < set(PROFILES)
    assert all(len(PROJECT.chosen(names)) == 1 for names in each.values())
    assert set(map(tuple, plan("shapes", ["03", "05"]).values())) == {("03", "05")}
