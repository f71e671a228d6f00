"""Where the public copy of the course is: buttons that open a notebook, and lines that say how.

All of it is made of two settings in pyproject.toml, `repository` ("owner/name" on GitHub) and
`pypi` (a name on PyPI); while both are empty the same lines say how to do without.
`python -m tools.publish` writes them everywhere.
"""

from collections.abc import Mapping
from urllib.parse import quote

from tools import links
from tools.project import Project

GITHUB = "https://github.com"
BRANCH = "main"


def buttons(project: Project, stem: str) -> str:
    """Markdown of the buttons that open a notebook of the public repository; "" without one."""
    if not project.repository:
        return ""
    path = f"{links.NOTEBOOKS}/{stem}.ipynb"
    on_github = f"{project.repository}/blob/{BRANCH}/{path}"
    services = (
        (
            "Open in Colab",
            "https://colab.research.google.com/assets/colab-badge.svg",
            links.notebook_address(project, stem),
        ),
        (
            "Open in Kaggle",
            "https://kaggle.com/static/images/open-in-kaggle.svg",
            f"https://kaggle.com/kernels/welcome?src={GITHUB}/{on_github}",
        ),
        ("Open in Binder", "https://mybinder.org/badge_logo.svg", binder(project, path)),
        (
            "Open in SageMaker Studio Lab",
            "https://studiolab.sagemaker.aws/studiolab.svg",
            f"https://studiolab.sagemaker.aws/import/github/{on_github}",
        ),
    )
    return " ".join(f"[![{name}]({picture})]({address})" for name, picture, address in services)


def binder(project: Project, path: str) -> str:
    """Where Binder opens a file of the public repository in JupyterLab."""
    encoded = quote(path, safe="")
    return f"https://mybinder.org/v2/gh/{project.repository}/{BRANCH}?labpath={encoded}"


def home(project: Project) -> str:
    """Address of the public repository; "" without one."""
    return f"{GITHUB}/{project.repository}" if project.repository else ""


def site(project: Project) -> str:
    """Address of the site that GitHub Pages serves; "" without a repository."""
    if not project.repository:
        return ""
    owner, name = project.repository.split("/")
    if name.lower() == f"{owner}.github.io".lower():
        return f"https://{owner}.github.io/"
    return f"https://{owner}.github.io/{name}/"


def origin(project: Project) -> str:
    """What pip installs the package from: PyPI, the repository, or ""."""
    return project.pypi or (f"git+{home(project)}" if project.repository else "")


def passages(project: Project) -> dict[str, str]:
    """Markdown of the generated passages that depend on where the course is public."""
    return {
        "badges": _badges(project),
        "clone": _clone(project),
        "clone-zh": _clone_in_chinese(project),
        "hosted": _hosted(project),
        "hosted-zh": _hosted_in_chinese(project),
        "install": _install(project),
        "issues": _issues(project),
        "advisories": _advisories(project),
    }


def lines(project: Project) -> Mapping[str, str]:
    """Lines of TOML and YAML files that depend on where the course is public."""
    if not project.repository:
        return {"urls": "", "citation": "", "contact-links": ""}
    public, pages = home(project), site(project)
    return {
        "urls": "\n".join(
            [
                "[project.urls]",
                f'Homepage = "{public}"',
                f'Documentation = "{pages}"',
                f'Issues = "{public}/issues"',
                f'Changelog = "{public}/blob/{BRANCH}/CHANGELOG.md"',
            ]
        ),
        "citation": f'repository-code: "{public}"\nurl: "{pages}"',
        "contact-links": "\n".join(
            [
                "contact_links:",
                "  - name: A weakness that others could exploit",
                f"    url: {public}/security/advisories/new",
                "    about: Report it here, where only the maintainers read it.",
            ]
        ),
    }


def _badges(project: Project) -> str:
    """Buttons at the top of README.md: what the tests say, the site, the package."""
    if not project.repository:
        return ""
    public = home(project)
    workflow = f"{public}/actions/workflows/test.yml"
    shown = [
        f"[![Tests]({workflow}/badge.svg)]({workflow})",
        f"[![Binder](https://mybinder.org/badge_logo.svg)]({binder(project, links.WELCOME)})",
    ]
    if project.pypi:
        package = f"https://pypi.org/project/{project.pypi}/"
        shown.append(f"[![PyPI](https://img.shields.io/pypi/v/{project.pypi})]({package})")
    return " ".join(shown)


def _clone(project: Project) -> str:
    """How to come by the files."""
    if not project.repository:
        return "Everything below is typed in the folder that holds this repository's README.md."
    return _clone_lines(project)


def _clone_in_chinese(project: Project) -> str:
    """The same for README.zh-CN.md."""
    if not project.repository:
        return "以下命令都在本仓库 README.md 所在的文件夹里运行。"
    return _clone_lines(project)


def _clone_lines(project: Project) -> str:
    name = project.repository.split("/")[1]
    return f"```console\ngit clone --depth 1 {home(project)}\ncd {name}\n```"


def _hosted(project: Project) -> str:
    """How to open a lesson without installing anything."""
    if not project.repository:
        return (
            "On Colab, upload a notebook and, in the panel of files, the wheel that `make wheel` "
            "builds in `dist/`. The first cell installs it, then what is missing there, and "
            "replaces what is too old, but never torch, numpy, or anything that is imported "
            "already."
        )
    return (
        "The buttons of each notebook open it on Colab, Kaggle, Binder or SageMaker Studio Lab. On "
        "Colab and Kaggle its first cell installs the package, then what is missing there, and "
        "replaces what is too old, but never torch, numpy, or anything that is imported already. "
        "Binder and Studio Lab make the environment of "
        f"[environment.yml]({home(project)}/blob/{BRANCH}/environment.yml)."
    )


def _hosted_in_chinese(project: Project) -> str:
    """The same for README.zh-CN.md."""
    if not project.repository:
        return (
            "在 Colab 上：上传一个 notebook，再把 `make wheel` 在 `dist/` 里生成的 wheel "
            "上传到文件面板。第一个单元会安装它，补上缺少的包，并替换版本过旧的包；torch、numpy "
            "和已经导入的包一概不动。"
        )
    return (
        "每个 notebook 上的按钮可在 Colab、Kaggle、Binder 或 SageMaker Studio Lab 中打开它。在 "
        "Colab 和 Kaggle 上，第一个单元会安装本课程的包，补上缺少的包，并替换版本过旧的包；"
        "torch、numpy 和已经导入的包一概不动。Binder 和 Studio Lab 按 "
        f"[environment.yml]({home(project)}/blob/{BRANCH}/environment.yml) 建立环境。"
    )


def _install(project: Project) -> str:
    """How to install the library alone."""
    return f"```console\npip install {origin(project) or '.'}\n```"


def _issues(project: Project) -> str:
    """Where to report a mistake."""
    if not project.repository:
        return "Report a mistake where you got this copy; there is no public address yet."
    return (
        f"[Open an issue]({home(project)}/issues/new/choose), or look through [those that are "
        f"known]({home(project)}/issues)."
    )


def _advisories(project: Project) -> str:
    """Where to report what others should not read yet."""
    if not project.repository:
        return (
            "Report it in private to whoever gave you this copy; once the repository is public, "
            "under **Security**, **Report a vulnerability**."
        )
    return (
        "Report it in private, under **Security**, **Report a vulnerability**, or directly as [a "
        f"new advisory]({home(project)}/security/advisories/new). Only the maintainers read it."
    )
