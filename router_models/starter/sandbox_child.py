"""The inside of the sandbox: a script, run as `python -I -S`, never imported by the package.

It runs twice. `confine` takes away the network and sets the limits, then replaces itself with a clean
interpreter (so that ctypes is not in the memory of the untrusted code). `run` reads the job from standard
input, sets the audit hook, runs the code and writes the results, one JSON list, to what was standard output.
"""

import sys
from collections.abc import Callable
from typing import NoReturn


def confine(cpu_s: int, memory_bytes: int) -> None:
    """Give up network, memory, files and processes, then start `run` in a fresh interpreter."""
    import contextlib
    import ctypes
    import os
    import resource

    new_user, new_network = 0x10000000, 0x40000000
    with contextlib.suppress(OSError, AttributeError):  # no such call here: the audit hook still refuses sockets
        ctypes.CDLL(None).unshare(new_user | new_network)
    limits = {
        "RLIMIT_CPU": cpu_s,
        "RLIMIT_AS": memory_bytes,
        "RLIMIT_FSIZE": 0,
        "RLIMIT_NPROC": 0,
        "RLIMIT_NOFILE": 16,
        "RLIMIT_CORE": 0,
    }
    for name, limit in limits.items():
        if (which := getattr(resource, name, None)) is not None:
            resource.setrlimit(which, (limit, limit))
    os.execve(sys.executable, [sys.executable, "-I", "-S", "-B", __file__, "run"], {})


def run() -> None:
    """Run the job on standard input; leave by os._exit, with results written or with nothing written."""
    import bisect
    import collections
    import copy
    import datetime
    import functools
    import heapq
    import itertools
    import json
    import math
    import operator
    import os
    import random
    import re
    import statistics
    import string
    import typing

    # Loaded before the hook, so that the untrusted code may import them.
    del bisect, collections, copy, datetime, functools, heapq, itertools, math, operator, random, re, statistics
    del string, typing
    job = json.loads(sys.stdin.buffer.read())
    channel = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    dump, leave, write = json.dumps, os._exit, os.write
    sys.addaudithook(_guard(leave))
    write(channel, b"\n")  # ready: the clock starts now
    try:
        namespace: dict[str, object] = {"__name__": "answer"}
        exec(compile(job["code"], "<answer>", "exec"), namespace)
        function = namespace[job["function"]]
        payload = dump([function(*case) for case in job["cases"]], allow_nan=False).encode()  # type: ignore[operator]
    except BaseException:  # noqa: BLE001  whatever it was, nothing is sent and that is the verdict
        leave(1)
    while payload:
        payload = payload[write(channel, payload) :]
    leave(0)


def _guard(leave: "Callable[[int], NoReturn]") -> "Callable[[str, object], None]":
    """Return an audit hook that allows a few harmless events and ends the process at any other."""
    allowed = frozenset(
        {"compile", "exec", "builtins.id", "object.__getattr__", "sys._getframe", "sys._getframemodulename"}
    )

    def hook(event: str, _: object) -> None:
        if event == "import":
            raise ImportError("this module is not available here")
        if event not in allowed:
            leave(1)

    return hook


if __name__ == "__main__":
    if sys.argv[1] == "confine":
        confine(int(sys.argv[2]), int(sys.argv[3]))
    else:
        run()
