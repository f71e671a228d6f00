"""How fast this machine computes: `python -m tools.machine` prints its GFLOP/s.

Seconds of another machine say little without its rate. The rate is that of a product of matrices,
in single precision and with the threads that notebooks have: most of their time is such products.
It is a mean over two seconds, not the best, so that it also shows what else the machine is doing.
"""

import subprocess
import sys
import time
from collections.abc import Mapping

from tools.project import ROOT

SIDE = 1024
SECONDS = 2.0


def gflops(environment: Mapping[str, str]) -> float:
    """Rate of a new process, in 10^9 floating-point operations per second.

    Args:
        environment: all variables of that process, as `tools.execution.offline_environment`.
    """
    run = subprocess.run(
        [sys.executable, "-m", "tools.machine"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(run.stdout)


def measure(seconds: float = SECONDS) -> float:
    """Rate of this process, in 10^9 floating-point operations per second.

    Args:
        seconds: how long to multiply.
    """
    import torch

    a, b = torch.randn(2, SIDE, SIDE)  # (SIDE, SIDE) each
    product = a @ b  # the first one starts the threads
    products = 0
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        torch.mm(a, b, out=product)
        products += 1
    elapsed = time.perf_counter() - started
    return products * 2 * SIDE**3 / elapsed / 1e9


if __name__ == "__main__":
    print(f"{measure():.3g}")
