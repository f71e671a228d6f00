"""The workshop kit: what is in it and what is not, and the wheels of other machines."""

import json
import os
import re
import subprocess
import sys
import zipfile
from itertools import count
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement

from benchmarks import table
from benchmarks import workshop_trial as trial
from tools import lab
from tools.project import ROOT, Project
from tools.workshop import __main__ as workshop
from tools.workshop import kit, start, wheels

PROJECT = Project()
OWN = "dinov2_in_practice-0.1.0-py3-none-any.whl"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Both folders, made with a wheel that is none: building it takes a minute."""
    out = tmp_path_factory.mktemp("kit")

    def build(project, folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / OWN).write_bytes(b"a wheel")
        return folder / OWN

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kit, "build_wheel", build)
        assert workshop.main([str(out)]) == 0
    return out


def notebooks(folder, pattern="*.ipynb"):
    paths = sorted((folder / kit.LESSONS / "notebooks").glob(pattern))
    return {path.stem: nbformat.read(path, as_version=4) for path in paths}


def test_everybody_gets_lessons_without_outputs_and_without_solutions(made):
    lessons = notebooks(made / kit.WORKSHOP)
    assert list(lessons) == PROJECT.lessons()
    for notebook in lessons.values():
        text = "\n".join(cell.source for cell in notebook.cells)
        assert all(not cell.outputs for cell in notebook.cells if cell.cell_type == "code")
        assert "Classic wrong answers" not in text and "<details>" not in text
        assert text.count("raise NotImplementedError") >= 2
        assert "Not solved yet" in text
        assert "<!--" not in text
        nbformat.validate(notebook)


def test_no_solution_lies_elsewhere_in_the_folder(made):
    for path in (made / kit.WORKSHOP).rglob("*"):
        if path.is_file() and path.suffix in (".md", ".html", ".py", ".ipynb", ".gift"):
            text = path.read_text(encoding="utf-8")
            assert "Answer to question" not in text, path
            assert "nearest = np.argsort(-similarity, axis=1)[:, :k]\\n" not in text, path


def test_who_teaches_gets_both_and_the_answers(made):
    lessons = notebooks(made / kit.TEACHER)
    assert list(lessons) == PROJECT.lessons()
    for notebook in lessons.values():
        assert any(cell.get("outputs") for cell in notebook.cells)
        assert "<summary>Solution</summary>" in "\n".join(cell.source for cell in notebook.cells)
    guide = (made / kit.TEACHER / "GUIDE.html").read_text(encoding="utf-8")
    assert "The misconception it cures" in guide and "<table>" in guide
    assert (made / kit.TEACHER / "quiz.gift").read_text(encoding="utf-8").count("[markdown]") == 56


def test_links_of_the_lessons_lead_to_files_of_the_folder(made):
    found = 0
    folder = made / kit.WORKSHOP / kit.LESSONS / "notebooks"
    for path in folder.glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                for target in re.findall(r"\]\((?![a-z]+:)([\w./-]+)", cell.source):
                    found += 1
                    assert (folder / target).is_file(), f"{path.name}: {target}"
    assert found > 20


def test_the_first_page_says_one_line_for_each_system(made):
    page = (made / kit.WORKSHOP / kit.START_HERE).read_text(encoding="utf-8")
    assert "<pre><code>python3 start.py" in page and "<pre><code>py start.py" in page
    assert "What does DINOv2 see in a picture?" in page
    assert "ModuleNotFoundError" in page and "<!--" not in page
    assert "http" not in page and "](" not in page
    assert (made / kit.WORKSHOP / "start.py").is_file()


def test_a_zip_has_all_of_its_folder(made):
    for name in (kit.WORKSHOP, kit.TEACHER):
        with zipfile.ZipFile(made / f"{name}.zip") as archive:
            packed = set(archive.namelist())
            assert archive.testzip() is None
        there = {
            path.relative_to(made).as_posix() for path in (made / name).rglob("*") if path.is_file()
        }
        assert packed == there


def test_what_is_left_of_an_older_kit_is_removed_but_wheels_stay(made, tmp_path):
    (tmp_path / "old.txt").touch()
    (tmp_path / "old").mkdir()
    (tmp_path / kit.WHEELS).mkdir()
    kit._clear(tmp_path, kept=kit.WHEELS)
    assert [path.name for path in tmp_path.iterdir()] == [kit.WHEELS]


# ------------------------------------------------------------------------------------------------
# wheels


def wheel(folder, name, version, tags="py3-none-any", requires=(), python=">=3.10"):
    path = folder / f"{name}-{version}-{tags}.whl"
    lines = [f"Name: {name}", f"Version: {version}", f"Requires-Python: {python}"]
    lines += [f"Requires-Dist: {r}" for r in requires]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}-{version}.dist-info/METADATA", "\n".join(lines))
    return path


@pytest.fixture
def project(tmp_path):
    """A package that needs one with an extra, on some machines another."""
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = ["torch>=2.6", "server[all]"]\n'
        "[project.optional-dependencies]\ncourse = []\n"
        '[tool.dinov2-in-practice]\nrepository = ""\n',
        encoding="utf-8",
    )
    (tmp_path / "constraints.txt").write_text(
        "# made\nserver==1.0\ncolorama==0.4 ; sys_platform == 'win32'\nextra-part==3.0\n",
        encoding="utf-8",
    )
    return Project(tmp_path)


@pytest.fixture
def registry(monkeypatch, tmp_path):
    """A pip that finds made-up wheels, and notes what it is asked for."""
    asked = []
    folder = tmp_path / "wheels"
    linux = "cp311-cp311-manylinux_2_28_x86_64"

    def run(command, check):
        names = command[command.index("--python-version") :]
        asked.append(command)
        for name in names:
            if name.startswith("torch"):
                tags = "cp311-cp311-win_amd64" if "win_amd64" in command else linux
                wheel(folder, "torch", "2.13.0", tags)
            elif name.startswith("server"):
                needs = (
                    'colorama; sys_platform == "win32"',
                    'Extra_Part; extra == "all"',
                    'never; extra == "other"',
                    'old; python_version < "3.11"',
                )
                wheel(folder, "server", "1.0", requires=needs)
            elif name.startswith("colorama"):
                wheel(folder, "colorama", "0.4")
            elif name.startswith("extra-part"):
                wheel(folder, "extra_part", "3.0", requires=["server"])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(wheels.subprocess, "run", run)
    return asked, folder


@pytest.mark.parametrize(("system", "needed"), [("linux", 3), ("windows", 4)])
def test_what_a_machine_needs_in_turn_comes_with_its_own_markers(project, registry, system, needed):
    asked, folder = registry
    assert wheels.fetch(project, wheels.Target(system, "3.11"), folder) == needed
    names = {path.name.split("-")[0] for path in folder.glob("*.whl")}
    assert ("colorama" in names) == (system == "windows")
    assert {"torch", "server", "extra_part"} <= names
    assert not names & {"never", "old"}
    assert all("--only-binary=:all:" in command for command in asked)
    assert "server==1.0" in asked[0]


def test_a_lock_lists_what_a_machine_needs_and_no_more(project, registry):
    _, folder = registry
    wheels.fetch(project, wheels.Target("linux", "3.11"), folder)
    wheels.fetch(project, wheels.Target("windows", "3.11"), folder)
    assert (folder / "lock-linux-3.11.txt").read_text(encoding="utf-8").splitlines() == [
        *("extra-part==3.0", "server==1.0", "torch==2.13.0"),
    ]
    assert "colorama==0.4\n" in (folder / "lock-windows-3.11.txt").read_text(encoding="utf-8")


def test_wheels_that_do_not_fit_together_are_named_and_have_no_lock(project, registry):
    _, folder = registry
    target = wheels.Target("linux", "3.11")
    wheels.fetch(project, target, folder)
    wheel(folder, "server", "1.0", requires=["torch>=3", 'Extra_Part; extra == "all"'])
    with pytest.raises(SystemExit, match=r"server-1.0-.* needs torch>=3, not torch-2.13.0"):
        wheels.fetch(project, target, folder)
    assert not (folder / target.lock).exists()


def test_a_wheel_must_run_on_the_first_of_a_python_and_find_all_it_needs(tmp_path):
    target = wheels.Target("linux", "3.11")
    late = wheel(tmp_path, "late", "1.0", python=">=3.11.5")
    lone = wheel(tmp_path, "lone", "1.0", requires=["missing>=2", 'other; os_name == "nt"'])
    files = {"late": late, "lone": lone}
    assert wheels.unmet(files, target, {"late": set(), "lone": set()}) == [
        "late-1.0-py3-none-any.whl needs Python >=3.11.5, not 3.11.0",
        "lone-1.0-py3-none-any.whl needs missing>=2, of which there is no wheel",
    ]


def test_what_is_there_is_not_downloaded_again(project, registry):
    asked, folder = registry
    wheels.fetch(project, wheels.Target("linux", "3.11"), folder)
    before = len(asked)
    wheels.fetch(project, wheels.Target("linux", "3.11"), folder)
    assert len(asked) == before


def test_torch_for_linux_comes_from_the_index_that_is_named(project, registry):
    asked, folder = registry
    wheels.fetch(project, wheels.Target("linux", "3.11"), folder, "https://example.org/cpu")
    with_index = [command for command in asked if "--index-url" in command]
    assert len(with_index) == 1 and with_index[0][-1].startswith("torch")


def test_cudas_libraries_are_refused(tmp_path):
    path = wheel(tmp_path, "torch", "2.13.0", requires=["nvidia-cublas; sys_platform == 'linux'"])
    with pytest.raises(SystemExit, match="--torch-index"):
        list(wheels._needed_by(path, wheels.Target("linux", "3.11"), set()))
    assert list(wheels._needed_by(path, wheels.Target("windows", "3.11"), set())) == []


def test_a_wheel_that_cannot_be_had_is_named(project, registry, monkeypatch):
    _, folder = registry
    monkeypatch.setattr(wheels.subprocess, "run", lambda command, check: None)
    with pytest.raises(SystemExit, match=r"no wheel of .* for macos and Python 3.12"):
        wheels.fetch(project, wheels.Target("macos", "3.12"), folder)


@pytest.mark.parametrize(
    ("tags", "system", "fits"),
    [
        ("py3-none-any", "macos", True),
        ("cp311-cp311-win_amd64", "windows", True),
        ("cp311-cp311-win_amd64", "linux", False),
        ("cp312-cp312-manylinux_2_17_x86_64", "linux", False),
        ("cp38-abi3-manylinux2014_x86_64", "linux", True),
        ("cp311-cp311-macosx_11_0_arm64", "macos", True),
    ],
)
def test_which_wheel_is_for_which_machine(tmp_path, tags, system, fits):
    wheel(tmp_path, "one", "1.0", tags)
    found = wheels.find(Requirement("one==1.0"), wheels.Target(system, "3.11"), tmp_path)
    assert (found is not None) == fits


# ------------------------------------------------------------------------------------------------
# start.py


def test_start_knows_whether_its_wheels_are_for_this_machine(tmp_path):
    for system, python in (("linux", "3.11"), ("windows", "3.12"), ("windows", "3.11")):
        (tmp_path / start.lock_name(system, python)).touch()
    there = tmp_path / "lock-linux-3.11.txt"
    assert start.lock_for(tmp_path, "linux", "x86_64", "3.11") == there
    assert start.lock_for(tmp_path, "windows", "AMD64", "3.12") is not None
    for system, processor, python in (
        ("linux", "x86_64", "3.12"),
        ("linux", "aarch64", "3.11"),
        ("macos", "arm64", "3.11"),
        ("", "x86_64", "3.11"),
    ):
        assert start.lock_for(tmp_path, system, processor, python) is None
    assert start.pythons(tmp_path, "windows") == ["3.11", "3.12"]
    assert start.pythons(tmp_path, "macos") == []


def test_start_says_what_is_wrong_with_a_python(tmp_path):
    assert "3.10 or newer is needed" in start.complaint(tmp_path, "linux", "x86_64", (3, 9, 1))
    assert start.complaint(tmp_path, "linux", "x86_64", (3, 13, 0)) == ""
    (tmp_path / start.lock_name("linux", "3.11")).touch()
    assert "here are for Python 3.11 on x86_64" in start.complaint(
        tmp_path, "linux", "x86_64", (3, 13, 0)
    )
    assert "No wheels here for Python 3.11 on aarch64" in start.complaint(
        tmp_path, "linux", "aarch64", (3, 11, 0)
    )
    assert start.complaint(tmp_path, "linux", "x86_64", (3, 11, 4)) == ""
    assert start.complaint(tmp_path, "", "riscv64", (3, 11, 4)) == ""


def test_start_asks_no_network_and_works_nothing_out_where_its_wheels_are(tmp_path):
    lock = tmp_path / start.lock_name("linux", "3.11")
    offline = start.install(tmp_path, lock)
    assert {"--no-index", "--no-deps", str(lock), "dinov2-in-practice"} <= set(offline)
    asked = start.install(tmp_path, None)
    assert not {"--no-index", "--no-deps"} & set(asked)
    assert "dinov2-in-practice[course]" in asked
    assert start.jupyter(["--no-browser"])[-1] == "--no-browser"


@pytest.mark.parametrize(
    "module",
    ["tools.workshop", "tools.colab", "benchmarks.workshop_trial", "benchmarks.models"],
)
def test_the_written_usage_names_every_option(module):
    command = [sys.executable, "-m", module, "--help"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    usage, explained = shown.split("\n\n", 1)
    options = set(re.findall(r"--[a-z-]+", explained)) - {"--help"}
    assert options == set(re.findall(r"--[a-z-]+", usage))


def test_jupyterlab_has_the_settings_of_the_kit_behind_those_of_the_reader(made, monkeypatch):
    in_kit = made / kit.WORKSHOP / start.SETTINGS.name / "labconfig"
    for path in (lab.SETTINGS / "labconfig").iterdir():
        assert (in_kit / path.name).read_bytes() == path.read_bytes()
    monkeypatch.delenv("JUPYTER_CONFIG_PATH", raising=False)
    monkeypatch.setenv("DINOV2_RESULTS", "mine")
    variables = start.environment()
    assert variables["JUPYTER_CONFIG_PATH"] == str(start.SETTINGS)
    assert variables["DINOV2_RESULTS"] == "mine"
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "own")
    assert start.environment()["JUPYTER_CONFIG_PATH"] == os.pathsep.join(
        ["own", str(start.SETTINGS)]
    )


def test_start_installs_once(tmp_path, monkeypatch, capsys):
    calls = count()
    monkeypatch.setattr(start, "ENVIRONMENT", tmp_path / "environment")
    monkeypatch.setattr(start, "READY", tmp_path / "environment" / "ready")
    made = []

    def create(folder, with_pip, clear):
        folder.mkdir(exist_ok=True)
        made.append(next(calls))

    monkeypatch.setattr(start.venv, "create", create)
    done = subprocess.CompletedProcess([], 0)
    monkeypatch.setattr(start.subprocess, "run", lambda command, check: done)
    assert start.main(["--install"]) == start.main(["--install"]) == 0
    assert made == [0]
    done.returncode = 3
    start.READY.unlink()
    assert start.main(["--install"]) == 3
    assert "could not be installed" in capsys.readouterr().out and not start.READY.exists()


def test_start_needs_python_alone():
    code = "import sys; sys.path[:0] = [sys.argv[1]]; import start; print(start.OLDEST)"
    folder = str(Path(start.__file__).parent)
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, folder], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "(3, 10)"


def test_the_notebooks_of_the_kit_open_with_the_kernel_that_is_installed(made):
    for path in (made / kit.WORKSHOP / kit.LESSONS / "notebooks").glob("*.ipynb"):
        kernel = json.loads(path.read_text(encoding="utf-8"))["metadata"]["kernelspec"]
        assert kernel["name"] == "python3"
    assert (ROOT / "tools" / "workshop" / "start-here.md").is_file()


# ------------------------------------------------------------------------------------------------
# trial


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A kit that looks installed: its Python is this one, its lesson one small picture."""
    monkeypatch.setattr(trial, "isolated", list)  # a network of its own needs root
    folder = tmp_path / kit.WORKSHOP
    python = start.python_of(folder / start.ENVIRONMENT.name)
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    lessons = folder / kit.LESSONS / "notebooks"
    lessons.mkdir(parents=True)
    picture = "from IPython.display import Image\nImage(b'GIF', format='png')"
    for stem, source in (("01_small", picture), ("02_broken", "1 / 0")):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
        nbformat.write(notebook, lessons / f"{stem}.ipynb")
    return tmp_path


def test_kernels_are_measured_while_all_of_them_are_loaded(room):
    found = trial.run_lessons(room, "01_small", 2)
    assert [one["notebook"] for one in found] == ["01_small", "01_small"]
    for one in found:
        assert 0 < one["first_picture_seconds"] <= one["seconds"]
        assert one["peak_mb"] >= 20 and one["loaded_mb"] >= one["loaded_proportional_mb"]
    assert list(room.glob("all*")) == []
    together = trial.summary(found)
    assert together["kernels"] == 2
    assert together["seconds"] == max(one["seconds"] for one in found)


def test_a_lesson_that_fails_in_the_kit_is_said_so(room):
    with pytest.raises(SystemExit, match="02_broken did not come to its end"):
        trial.run_lessons(room, "02_broken", 1)


def test_nothing_of_this_machine_helps_a_trial(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", "/somewhere")
    variables = trial.environment(tmp_path)
    assert not any(name.startswith("PIP_FIND") for name in variables)
    assert variables["PIP_CONFIG_FILE"] == "/dev/null" and variables["DINOV2_THREADS"] == "1"
    assert trial.isolated(["python"])[:2] == ["unshare", "--net"]


def small_kit(folder, checked):
    """A kit whose start.py makes a Python that only answers how its pip check ends."""
    python = start.python_of(Path(start.ENVIRONMENT.name)).as_posix()
    script = f"""
from pathlib import Path
path = Path({python!r})
path.parent.mkdir(parents=True)
path.write_text("#!/bin/sh\\nexit {checked}\\n", encoding="utf-8")
path.chmod(0o755)
"""
    packed = folder / "kit.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(f"{kit.WORKSHOP}/start.py", script)
        archive.writestr(f"{kit.WORKSHOP}/wheels/linux/one-1.0-py3-none-any.whl", b"")
    return packed


def test_a_kit_is_installed_by_its_own_start_and_checked(tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "isolated", list)
    found = trial.unpack_and_install(small_kit(tmp_path, 0), tmp_path / "room")
    assert found.keys() == {"unpack_seconds", "install_seconds", "wheels", "installed_mb"}
    assert found["wheels"] == 1


def test_the_size_of_a_folder_does_not_count_what_links_lead_to(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    assert trial.size_of(tmp_path) == 5


def test_an_installed_package_that_lacks_another_fails_the_trial(tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "isolated", list)
    with pytest.raises(SystemExit, match=r"kit\.zip is not whole"):
        trial.unpack_and_install(small_kit(tmp_path, 1), tmp_path / "room")


STEADY = {
    "first_picture_seconds": 2.0,
    "seconds": 3.0,
    "peak_mb": 100,
    "loaded_mb": 90,
    "loaded_proportional_mb": 50,
}


def test_a_trial_reports_each_step_and_keeps_its_room(room, monkeypatch, capsys):
    packed = room / "kit.zip"
    packed.write_bytes(b"a kit")
    monkeypatch.setattr(trial, "unpack_and_install", lambda packed, room: {"install_seconds": 1.0})
    monkeypatch.setattr(trial, "run_lessons", lambda room, stem, count: [STEADY] * count)
    out = room / "trial.json"
    options = [str(packed), "--kernels", "1", "3", "--room", str(room), "--out", str(out)]
    assert trial.main(options) == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    installed, one, three = map(json.loads, capsys.readouterr().out.splitlines())
    assert installed["install_seconds"] == 1.0 and installed["kit_mb"] == 0
    assert (one["kernels"], three["kernels"]) == (1, 3)
    assert one["lesson"] == "01_feature_space" and one["peak_mb"] == STEADY["peak_mb"]
    assert packed.exists()
    assert report["kit"] == installed and report["rows"] == [one, three]
    assert table.workshop(report).rows[1][:3] == ("3", "2 s", "3 s")
