"""Parts by a pool of actors of Ray, which starts lost ones again and repeats their parts."""

import logging
import os
from typing import Any

from .extractor import Extractor, Job, Made
from .parts import Part

log = logging.getLogger("dinov2_helpers")
STARTS = 5  # attempts


class Actor(Extractor):
    """An extractor for rows of Ray, which would change names that are no UTF-8."""

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Make a part."""
        return self.make(Part.from_json(row["part"]))._asdict()


def start_ray(cores: int | None = None) -> None:
    """Start Ray, or join the cluster of RAY_ADDRESS.

    On a busy machine its processes miss their own deadline of 30 s, which cannot be set; they are
    started again, for slow is not failed.

    Args:
        cores: That it may use; None: all, or those of the cluster.

    Raises:
        Exception: What Ray raises, if it is another error or the last attempt.
    """
    import ray

    for attempt in range(1, STARTS + 1):
        try:
            ray.init(include_dashboard=False, log_to_driver=False, num_cpus=cores)
            return
        except Exception as error:
            if "timed out during startup" not in str(error) or attempt == STARTS:
                raise
            log.warning("Ray did not start within its own 30 s: attempt %d follows", attempt + 1)
            ray.shutdown()


def make_parts(
    parts: list[Part], job: Job, *, workers: int, cpus: float, gpus: float
) -> list[Made]:
    """Give the parts to a pool of actors, on the cluster of RAY_ADDRESS or a new one here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    logging.getLogger("ray.data").setLevel(logging.WARNING)
    if not ray.is_initialized():
        start_ray()
    rows = [{"part": part.to_json()} for part in parts]
    dataset: Any = ray.data.from_items(rows, override_num_blocks=min(len(rows), 10_000))
    done = dataset.map(
        Actor,
        fn_constructor_args=(job,),
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=cpus,
        num_gpus=gpus or None,
    )
    return [Made(**row) for row in done.take_all()]
