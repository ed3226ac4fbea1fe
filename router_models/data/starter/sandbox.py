"""Run a function that a model wrote, without trusting it.

The wall is the kernel: before the untrusted code starts, its process installs a seccomp filter it cannot take off,
and from then on it may only compute, use memory, read the clock, read and write the descriptors it holds (the null
device and the pipe back) and leave. Any other system call (a file, a socket, a signal, another process, a stat)
kills it. Besides, resource limits hold (CPU time, address space, no core dump), and a wall clock, after which the
process group is killed; at most 64 KiB of results are read.

A pass cannot be faked: the child is told the arguments and never the expected values; it sends back what the
function returned and the parent compares. Leaving early (`os._exit(0)`) sends nothing, which is a failure.

Linux on x86-64 and aarch64 only. Elsewhere, and where the kernel refuses the filter, no program is run:
SandboxUnavailableError. A process that may compute for a second can still warm the room and, in principle, watch
the caches of its neighbours; that is not guarded against.
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
_CHILD = Path(__file__).with_name("sandbox_child.py")


def call(code: str, function: str, cases: Sequence[Sequence[object]]) -> list[object] | None:
    """Run `code`, call `function` on each case's arguments, return the JSON forms of what came back.

    None when anything went wrong: it did not parse, raised, ran out of a limit, tried something forbidden or
    returned what JSON cannot hold. Tuples come back as lists. Takes WALL_S seconds at most once the interpreter is up
    (START_S is allowed for that, so that a busy machine does not turn right answers into wrong ones).
    Raise SandboxUnavailableError where the process cannot be confined.
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
        return _talk(child, payload)
    finally:
        _kill_group(child.pid)
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()
        child.wait()


def _talk(child: "subprocess.Popen[bytes]", payload: bytes) -> bytes:
    """Feed the job and return the results; empty when a deadline passes or there is too much to read.

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
