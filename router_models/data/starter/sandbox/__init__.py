"""Run a function that a model wrote, without trusting it.

The kernel confines it: before the untrusted code starts, its process installs a seccomp filter that cannot be
removed. From then on it may only compute, use memory, read the clock, read and write the descriptors it holds (the
null device and the pipe back) and exit. Any other system call (a file, a socket, a signal, another process, a stat)
kills it. In addition, resource limits hold (CPU time, address space, no core dump), and a wall-clock limit, after
which the process group is killed; at most 64 KiB of results are read.

A pass cannot be faked: the child receives the arguments and never the expected values; it sends back what the
function returned and the parent compares. Exiting early (`os._exit(0)`) sends nothing, which is a failure.

Linux on x86-64 and aarch64 only. Elsewhere, and where the kernel refuses the filter, no program is run:
SandboxUnavailableError. Not guarded against: a process may use the CPU for a second, and could in principle observe
its neighbours through the caches.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from router_models.errors import SandboxUnavailableError

CPU_S = 1
WALL_S = 2.0
START_S = 20.0
MEMORY_BYTES = 128 * 2**20
RESULT_BYTES = 64 * 2**10
_CHILD = Path(__file__).with_name("child.py")


def call(code: str, function: str, cases: Sequence[Sequence[object]]) -> list[object] | None:
    """Run code that defines a function, and call the function once per case.

    It takes `WALL_S` seconds at most once the interpreter has started; `START_S` seconds are allowed for the start, so
    that a busy machine does not turn right answers into wrong ones.

    Parameters
    ----------
    code : str
        Untrusted Python source.
    function : str
        The name of the function that it defines.
    cases : sequence of sequences
        The arguments of each call; JSON values.

    Returns
    -------
    list or None
        What each call returned, as JSON values (tuples as lists). None where anything failed: a syntax error, an
        exception, a limit, a forbidden system call, or a result that JSON cannot hold.

    Raises
    ------
    SandboxUnavailableError
        Where the process cannot be confined.
    """
    try:
        job = json.dumps({"code": code, "function": function, "cases": [list(case) for case in cases]})
        payload = job.encode("utf-8")
    except ValueError:
        return None
    output = _run(payload)
    if output.startswith(b"!"):
        raise SandboxUnavailableError(
            f"programs cannot be graded here: {output[1:].decode(errors='replace')}; they need Linux on x86-64 or "
            "aarch64 with seccomp. Grade on such a machine or leave out tasks whose grader is 'program'."
        )
    return _results(output, len(cases))


def _run(payload: bytes) -> bytes:
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", str(_CHILD), str(CPU_S), str(MEMORY_BYTES)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={},
        start_new_session=True,
    )
    try:
        return _exchange(child, payload)
    finally:
        _kill_group(child.pid)
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()
        child.wait()


def _exchange(child: "subprocess.Popen[bytes]", payload: bytes) -> bytes:
    """Write the job and return the results; empty when a deadline passes or there is too much to read.

    The child's first byte says that it is ready: only then does the untrusted code's own clock start.
    """
    assert child.stdin is not None
    assert child.stdout is not None
    feed, drain = child.stdin.fileno(), child.stdout.fileno()
    os.set_blocking(feed, False)
    output = bytearray()
    deadline = time.monotonic() + START_S
    with selectors.DefaultSelector() as selector:
        selector.register(feed, selectors.EVENT_WRITE)
        selector.register(drain, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0 and len(output) <= RESULT_BYTES:
            for key, _ in selector.select(left):
                if key.fd == drain:
                    chunk = os.read(drain, 2**16)
                    if not chunk:
                        return bytes(output)
                    if not output:
                        deadline = time.monotonic() + WALL_S
                    output += chunk
                    continue
                try:
                    payload = payload[os.write(feed, payload) :]
                except BrokenPipeError:
                    payload = b""
                if not payload:
                    selector.unregister(feed)
                    child.stdin.close()
    return b""


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _results(output: bytes, count: int) -> list[object] | None:
    try:
        value = json.loads(output)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) and len(value) == count else None
