"""Whether guidance runs at the real widths of Stable Diffusion 1.5, and in how much memory.

    python -m benchmarks.guidance_widths
    python -m benchmarks.guidance_widths --plans "cheap, 32 bits" --steps 1

The notebooks run a small model, and `make rehearse` a narrow one. Here the UNet, the decoder and
the text encoder have the widths of Stable Diffusion 1.5 and DINOv2 those of ViT-S/14, with random
weights: what is drawn means nothing, but the shapes, the graph of the gradient and the memory are
the real ones. Each plan draws one picture of 512 px in a process of its own, whose largest resident
memory is written: the weights, what the gradient keeps, and Python with its libraries. It is to be
compared with what evidence/07 estimates. Seconds are the processor's, of all its cores together,
which other programs lengthen less than the clock's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import run_record

# name: how the gradient is taken, bits of a number, whether diffusers' checkpoints are on
PLANS: dict[str, tuple[str, int, bool]] = {
    "cheap, 32 bits": ("cheap", 32, False),
    "cheap, checkpoints, 32 bits": ("cheap", 32, True),
    "full, checkpoints, 32 bits": ("full", 32, True),
    "full, 32 bits": ("full", 32, False),
    "cheap, 16 bits": ("cheap", 16, False),
    "full, checkpoints, 16 bits": ("full", 16, True),
}
STEPS = 2
TARGET = "cat"  # of `photographs()`


def real_widths(bits: int, checkpoints: bool) -> tuple[Any, Any]:
    """Return a pipeline of the widths of Stable Diffusion 1.5, and a DINOv2 of those of ViT-S/14.

    Args:
        bits: Of a number: 32, or 16 (bfloat16, which CPUs compute with).
        checkpoints: Whether the UNet and the decoder compute parts again instead of keeping them.
    """
    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    from dinov2_helpers import load_dinov2
    from tools import standins

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        standins.dinov2_model("facebook/dinov2-small").save_pretrained(folder)
        standins.write_preprocessor(Path(folder), standins.PREPROCESSOR)
        dinov2 = load_dinov2(folder)
    dtype = {32: torch.float32, 16: torch.bfloat16}[bits]
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # so that no copy in 32 bits is made first
    try:
        networks = standins.diffusion_models()
    finally:
        torch.set_default_dtype(before)
    pipeline: Any = StableDiffusionPipeline(
        **networks,
        tokenizer=standins.tokenizer(),
        scheduler=DDIMScheduler.from_config(standins.SCHEDULER),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    if checkpoints:
        pipeline.unet.enable_gradient_checkpointing()
        pipeline.vae.enable_gradient_checkpointing()
    return pipeline, dinov2


def draw(plan: str, steps: int) -> dict[str, Any]:
    """Draw one picture by a plan; return what it took."""
    import numpy as np
    import torch

    from dinov2_helpers import photographs
    from dinov2_helpers.techniques import Guide

    gradient, bits, checkpoints = PLANS[plan]
    pipeline, dinov2 = real_widths(bits, checkpoints)
    loaded = run_record.peak_mb()
    guide = Guide(dinov2, photographs()[TARGET], gradient=gradient, size=224)  # type: ignore[arg-type]
    started = time.process_time()
    guided = guide.sample(pipeline, "a photo of a cat", steps=steps)
    seconds = time.process_time() - started
    return {
        "plan": plan,
        "threads": torch.get_num_threads(),
        "picture": list(guided.pictures.shape[1:]),
        "finite": bool(np.isfinite(guided.loss).all()),
        "loaded_mb": loaded,
        "peak_mb": run_record.peak_mb(),
        "cpu_seconds_a_step": seconds / len(guided.loss[0]),
    }


def benchmark(plans: Sequence[str], steps: int, out: Path) -> dict[str, Any]:
    """Run each plan in a process of its own; return what is written to `out`."""
    started = time.perf_counter()
    record = run_record.machine(**run_record.versions("torch", "diffusers", "transformers"))
    report: dict[str, Any] = {"run": record | {"steps": steps}, "rows": []}
    for plan in plans:
        command = [sys.executable, "-m", "benchmarks.guidance_widths", "--one", plan]
        done = subprocess.run(
            [*command, "--steps", str(steps)], stdout=subprocess.PIPE, text=True, check=True
        )
        row = json.loads(done.stdout.splitlines()[-1])
        report["run"]["threads"] = row.pop("threads")
        report["rows"].append(row)
        run_record.write(report, started, out)
        cost = f"{row['peak_mb'] / 1000:.1f} GB, {row['cpu_seconds_a_step']:.0f} CPU s a step"
        print(f"{plan:>28}: {cost}", flush=True)
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--plans", nargs="+", choices=PLANS, default=list(PLANS))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--one", choices=PLANS, help=argparse.SUPPRESS)
    default = run_record.RESULTS / "guidance_widths.json"
    parser.add_argument("--out", type=Path, default=default, help="JSON file to write")
    options = parser.parse_args(arguments)
    if options.one:
        os.environ.setdefault("DINOV2_PROFILE", "tiny")
        print(json.dumps(draw(options.one, options.steps)))
        return 0
    benchmark(options.plans, options.steps, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
