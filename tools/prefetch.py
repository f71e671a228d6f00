"""Downloads the models of a profile once, for a room without a network: `make prefetch`.

    python -m tools.prefetch small

Before a download it says what comes, how large it is and from where. Each model is loaded, which
shows that it is whole, and its files are listed with sizes and hashes.
Afterwards the notebooks run under that profile without a network.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import constants, scan_cache_dir

from dinov2_helpers import course, load_clip, load_diffusion, load_dinov2
from dinov2_helpers.hashes import sha256_of
from dinov2_helpers.models import PROFILES, WEIGHTS


def cached_files(repo: str, revision: str) -> Iterator[tuple[str, Path]]:
    """Name in the repository and place on this machine of each file of a commit in the cache."""
    for known in scan_cache_dir(constants.HF_HUB_CACHE).repos:
        for commit in known.revisions:
            if known.repo_id == repo and commit.commit_hash == revision:
                for file in commit.files:
                    yield (
                        file.file_path.relative_to(commit.snapshot_path).as_posix(),
                        file.file_path,
                    )


def prefetch(profile: str) -> list[str]:
    """Loads the models of a profile of the hub; returns a line for each file, and the sum.

    ModelError: a model cannot be had; the text says why and what to do.
    """
    models = PROFILES[profile]
    loaders: dict[str, Callable[..., Any]] = {
        models.dinov2: load_dinov2,
        models.clip: load_clip,
        models.diffusion: load_diffusion,
    }
    lines, total = [], 0
    for repo, load in loaders.items():
        load(profile, device="cpu")
        for name, path in sorted(cached_files(repo, WEIGHTS[repo]["revision"])):
            size = path.stat().st_size
            lines.append(f"{sha256_of(path)}  {size / 1e6:9.1f} MB  {repo}/{name}")
            total += size
    return [*lines, f"{total / 1e6:,.0f} MB in {constants.HF_HUB_CACHE}"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("profile", choices=[name for name in PROFILES if name != "tiny"])
    profile = parser.parse_args(arguments).profile
    course.show_messages()
    print("\n".join(prefetch(profile)))


if __name__ == "__main__":
    main()
