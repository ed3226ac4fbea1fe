"""The script that runs inside the sandbox as `python -I -S`; it is never imported by the package.

It reads the job from standard input, imports what the untrusted code may use, gives up everything else, then runs
the code and writes the results, one JSON list, to what was standard output. Where it cannot give everything up it
runs nothing and writes "!" and the reason.
"""

import sys
from collections.abc import Sequence

# Per machine: the kernel's name for it (AUDIT_ARCH_*) and the numbers of the system calls below, in their order.
# exit, exit_group, rt_sigreturn, read, write, mmap, munmap, mremap, mprotect, madvise, brk, futex,
# clock_gettime, gettimeofday, getrandom
ALLOWED = {
    "x86_64": (0xC000003E, (60, 231, 15, 0, 1, 9, 11, 25, 10, 28, 12, 202, 228, 96, 318)),
    "aarch64": (0xC00000B7, (93, 94, 139, 63, 64, 222, 215, 216, 226, 233, 214, 98, 113, 169, 278)),
}


def syscall_filter(machine: str) -> bytes:
    """Return the seccomp program (struct sock_filter[]) that kills the process at any call but those in ALLOWED.

    Raise OSError for a machine whose call numbers are not listed.
    """
    import struct

    if machine not in ALLOWED:
        raise OSError(f"no system call filter for {sys.platform} on {machine}")
    load, equal, leave = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
    kill, allow = 0x80000000, 0x7FFF0000  # SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_ALLOW
    architecture, calls = ALLOWED[machine]
    steps = [(load, 0, 0, 4), (equal, 1, 0, architecture), (leave, 0, 0, kill), (load, 0, 0, 0)]
    steps += [(equal, len(calls) - place, 0, call) for place, call in enumerate(calls)]
    steps += [(leave, 0, 0, kill), (leave, 0, 0, allow)]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def confine(cpu_s: int, memory_bytes: int) -> None:
    """Set the limits and the filter, for good; raise OSError where the kernel does not take them."""
    import ctypes
    import os
    import resource
    import struct

    steps = ctypes.create_string_buffer(syscall_filter(os.uname().machine))
    program = ctypes.create_string_buffer(struct.pack("HP", len(steps) // 8, ctypes.addressof(steps)))
    for which, limit in (
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(which, (limit, limit))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
    set_no_new_privileges, set_seccomp, mode_filter = 38, 22, 2
    if prctl(set_no_new_privileges, 1, 0, 0, 0) or prctl(set_seccomp, mode_filter, ctypes.addressof(program), 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel refuses a system call filter")


def run_program(cpu_s: int, memory_bytes: int) -> None:
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

    # Loaded while files can still be read, so that the untrusted code may import them.
    del bisect, collections, copy, datetime, functools, heapq, itertools, math, operator, random, re, statistics
    del string, typing
    job = json.loads(sys.stdin.buffer.read())
    channel = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    dump, leave, write = json.dumps, os._exit, os.write
    try:
        confine(cpu_s, memory_bytes)
    except (ImportError, AttributeError, OSError) as error:
        write(channel, f"!{error}".encode())
        leave(1)
    for name in ("ctypes", "_ctypes"):
        sys.modules.pop(name, None)
    sys.addaudithook(_no_more_modules)
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


def _no_more_modules(event: str, _: Sequence[object]) -> None:
    """Refuse imports by an audit hook: a module that is not loaded raises ImportError instead of opening a file."""
    if event == "import":
        raise ImportError("this module is not available here")


if __name__ == "__main__":
    run_program(int(sys.argv[1]), int(sys.argv[2]))
