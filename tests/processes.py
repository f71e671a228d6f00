"""Run a piece of a test in a process of its own, which may lose its rights, hang or be killed.

Processes are forked: fresh ones would import torch for seconds, each.
"""

import io
import multiprocessing
import os
import time
from contextlib import redirect_stdout

import pytest

FORKS = "fork" in multiprocessing.get_all_start_methods()  # Windows does not
FORK = multiprocessing.get_context("fork" if FORKS else None)
SECONDS = 10  # until a process is taken to hang
NOBODY = 65534


def need_forks():
    """Skip a test where processes cannot be forked."""
    if not FORKS:
        pytest.skip("this system cannot fork a process")


def start(work):
    """Start `work`, and return the process and where its result will come from."""
    need_forks()
    receive, send = FORK.Pipe(duplex=False)

    def main():
        with redirect_stdout(io.StringIO()) as said:
            try:
                result = work()
            except Exception as error:
                result = error
        send.send((result, said.getvalue()))

    process = FORK.Process(target=main)
    process.start()
    send.close()
    return process, receive


def finish(process, receive):
    """Return the result of a process and what it printed; EOFError: it was killed before."""
    try:
        if not receive.poll(SECONDS):  # true also of a dead process
            pytest.fail("the process hangs")
        result, said = receive.recv()
    finally:
        process.kill()
        process.join()
    if isinstance(result, Exception):
        raise result
    return result, said


def elsewhere(work):
    """Return what `work` returns, or raise what it raises, and what it printed."""
    return finish(*start(work))


def as_nobody(work):
    """Do the same without the right of root to read and write everything."""

    def dropped():
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
        except OSError:
            return None
        return work()

    result, said = elsewhere(dropped)
    if result is None:
        pytest.skip("root cannot become anybody else here")
    return result, said


def both(work):
    """Return the results and the prints of two processes that do `work` at the same time."""
    need_forks()
    together = FORK.Barrier(2)

    def wait_and_work():
        together.wait(SECONDS)
        return work()

    return [finish(*running) for running in [start(wait_and_work), start(wait_and_work)]]


def killed(work, when=None):
    """Return the signal that ended `work`: its own, or SIGKILL as soon as `when` is true."""
    process, receive = start(work)
    until = time.monotonic() + SECONDS
    while when and process.is_alive() and not when() and time.monotonic() < until:
        time.sleep(0.005)
    if when:
        process.kill()
    with pytest.raises(EOFError):
        finish(process, receive)
    return -process.exitcode
