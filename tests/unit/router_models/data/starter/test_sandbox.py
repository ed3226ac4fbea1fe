"""The sandbox: honest code runs; every kind of mischief ends promptly and earns nothing."""

import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from router_models.data.starter import sandbox
from router_models.data.starter.program import marks_program
from router_models.data.starter.sandbox.child import ALLOWED, syscall_filter
from router_models.errors import SandboxUnavailableError

PROMPTLY_S = 30.0  # about 2 s on an idle machine; a runner busy with engines takes seconds to start a process
CASES = [[[1], 101], [[5], 105]]

# Each would be right if its mischief went unnoticed or succeeded.
MISCHIEF = {
    "infinite loop": "def f(x):\n    while True:\n        pass",
    "infinite loop on import": "while True:\n    pass\ndef f(x):\n    return x + 100",
    "loop that catches everything": (
        "def f(x):\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass"
    ),
    "sleep": "import time\ndef f(x):\n    time.sleep(60)\n    return x + 100",
    "deadlock": (
        "import _thread\ndef f(x):\n    l = _thread.allocate_lock()\n    l.acquire()\n    l.acquire()\n"
        "    return x + 100"
    ),
    "memory bomb at once": "def f(x):\n    a = 'x' * 10**10\n    return x + 100",
    "memory bomb by growth": "def f(x):\n    a = [0]\n    while True:\n        a += a\n    return x + 100",
    "fork": (
        "import os\ndef f(x):\n    try:\n        os.fork()\n    except BaseException:\n        pass\n"
        "    return x + 100"
    ),
    "fork bomb": "import os\ndef f(x):\n    while True:\n        os.fork()",
    "threads": "import _thread\ndef f(x):\n    while True:\n        _thread.start_new_thread(f, (x,))",
    "shell": "import os\ndef f(x):\n    os.system('true')\n    return x + 100",
    "exec": "import os\ndef f(x):\n    os.execv('/bin/true', ['true'])",
    "subprocess": "import subprocess\ndef f(x):\n    return x + 100",
    "file write": (
        "def f(x):\n    try:\n        open('a.txt', 'w').write('b')\n    except BaseException:\n"
        "        pass\n    return x + 100"
    ),
    "file read": "def f(x):\n    open('/etc/passwd').read()\n    return x + 100",
    "low-level open": "import os\ndef f(x):\n    os.open('/etc/passwd', os.O_RDONLY)\n    return x + 100",
    "socket": "import socket\ndef f(x):\n    socket.socket()\n    return x + 100",
    "raw socket module": "import _socket\ndef f(x):\n    _socket.socket()\n    return x + 100",
    "ctypes": "import ctypes\ndef f(x):\n    return x + 100",
    "sys.exit": "import sys\ndef f(x):\n    sys.exit(0)",
    "exit on import": "import os\nos._exit(0)\ndef f(x):\n    return x + 100",
    "exit in the call": "import os\ndef f(x):\n    os._exit(0)",
    "forged results": (
        "import os\ndef f(x):\n    for d in range(3, 16):\n"
        "        try:\n            os.write(d, b'[true, true]')\n        except OSError:\n            pass\n"
        "    os._exit(0)"
    ),
    "equal to everything": (
        "class E(int):\n    def __eq__(self, other):\n        return True\ndef f(x):\n    return E(0)"
    ),
    "patched json": "import json\njson.dumps = lambda *a, **k: '[101, 999]'\ndef f(x):\n    return 0",
    "huge result": "def f(x):\n    return 'x' * 10**7",
    "huge number": "def f(x):\n    return 10 ** 10000",
    "not JSON": "def f(x):\n    return {1, 2}",
    "not a number": "def f(x):\n    return float('nan')",
    "deep recursion": "def f(x):\n    return f(x)",
    "deep result": "def f(x):\n    a = []\n    for _ in range(100000):\n        a = [a]\n    return a",
    "endless printing": "def f(x):\n    while True:\n        print('x' * 1000)",
    "asking for input": "def f(x):\n    return int(input())",
    "killing the parent": "import os\ndef f(x):\n    os.kill(os.getppid(), 9)\n    return x + 100",
    "killing the parent by descriptor": (
        "import os, sys\ndef f(x):\n"
        "    sys.modules['_signal'].pidfd_send_signal(os.pidfd_open(os.getppid()), 9)\n    return x + 100"
    ),
    "device file": "import os\ndef f(x):\n    os.mknod('/dev/null')\n    return x + 100",
    "stat": "import os\ndef f(x):\n    os.stat('/etc/passwd')\n    return x + 100",
    "access": "import os\ndef f(x):\n    os.access('/etc/passwd', os.R_OK)\n    return x + 100",
    "readlink": "import os\ndef f(x):\n    os.readlink('/proc/self/exe')\n    return x + 100",
    "working directory": "import os\ndef f(x):\n    os.getcwd()\n    return x + 100",
    "process number": "import os\ndef f(x):\n    os.getpid()\n    return x + 100",
    "memory file": "import os\ndef f(x):\n    os.memfd_create('x')\n    return x + 100",
    "priority": "import os\ndef f(x):\n    os.nice(1)\n    return x + 100",
    "affinity": "import os\ndef f(x):\n    os.sched_setaffinity(0, {0})\n    return x + 100",
    "user": "import os\ndef f(x):\n    os.setuid(os.getuid())\n    return x + 100",
    "signal handler": (
        "import sys\ndef f(x):\n    sys.modules['_signal'].signal(15, lambda *_: None)\n    return x + 100"
    ),
    "module loaded past the import system": (
        "import sys\ndef f(x):\n    frozen = sys.modules['_frozen_importlib']\n"
        "    loader = frozen.BuiltinImporter\n"
        "    fresh = loader.create_module(frozen.ModuleSpec('posix', loader))\n"
        "    loader.exec_module(fresh)\n    fresh.getppid()\n    return x + 100"
    ),
    "extension loaded past the import system": (
        "import sys\ndef f(x):\n    loader = sys.modules['math'].__loader__\n"
        "    loader.create_module(sys.modules['math'].__spec__)\n    loader.get_data('/etc/passwd')\n"
        "    return x + 100"
    ),
}


@pytest.mark.parametrize("name", MISCHIEF)
def test_mischief_is_graded_wrong_and_promptly(name: str) -> None:
    start = time.monotonic()
    assert not marks_program({"function": "f", "cases": CASES}, f"```python\n{MISCHIEF[name]}\n```")
    assert time.monotonic() - start < PROMPTLY_S


def test_limits_keep_a_hopeless_answer_below_three_seconds() -> None:
    assert sandbox.CPU_S <= sandbox.WALL_S <= 2.5


def test_honest_code_is_run() -> None:
    assert sandbox.call("def f(a, b):\n    return [a + b, {'k': (a, None)}]", "f", [[1, 2]]) == [[3, {"k": [1, None]}]]


def test_printing_does_not_disturb_the_results() -> None:
    assert sandbox.call("print('[1]')\ndef f(x):\n    print(x)\n    return x", "f", [[1], [2]]) == [1, 2]


def test_usual_modules_can_be_imported() -> None:
    code = "import math, re, collections, itertools, functools, statistics, heapq, string\nfrom typing import List\n"
    assert sandbox.call(code + "def f(x: List[int]):\n    return math.gcd(*x)", "f", [[[4, 6]]]) == [2]


def test_missing_module_is_an_ordinary_import_error() -> None:
    code = "try:\n    import numpy\nexcept ImportError:\n    numpy = None\ndef f():\n    return numpy is None"
    assert sandbox.call(code, "f", [[]]) == [True]


def test_environment_is_empty() -> None:
    code = "import os, sys\ndef f():\n    return [sorted(set(os.environ) - {'LC_CTYPE'}), len(sys.argv)]"
    assert sandbox.call(code, "f", [[]]) == [[[], 3]]


def test_expected_values_never_reach_the_child() -> None:
    """The child's whole input is the code, the function's name and the arguments."""
    code = (
        "import sys\n"
        "def f(x):\n"
        "    seen, frame = [], sys._getframe()\n"
        "    while frame:\n"
        "        seen.append(repr(frame.f_locals) + repr(frame.f_globals))\n"
        "        frame = frame.f_back\n"
        "    return any('987' + '654' in text for text in seen)"
    )
    assert sandbox.call(code, "f", [[1]]) == [False]


def test_a_process_outside_cannot_be_killed() -> None:
    victim = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    kill = f"import os, sys\ndef f():\n    sys.modules['_signal'].pidfd_send_signal(os.pidfd_open({victim.pid}), 9)"
    try:
        assert sandbox.call(f"{kill}\n    return 1", "f", [[]]) is None
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.communicate()


@pytest.mark.parametrize("call", ["mkfifo", "mknod", "mkdir", "unlink", "chdir"])
def test_no_name_in_the_file_system_can_be_touched(call: str, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("")
    for name in ("new", "there"):
        assert sandbox.call(f"import os\ndef f(p):\n    os.{call}(p)", "f", [[str(tmp_path / name)]]) is None
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_lets_exactly_the_listed_calls_of_its_own_machine_through(machine: str) -> None:
    """The filter is run here by a small interpreter of its three instructions, on every call number there is."""
    architecture, calls = ALLOWED[machine]
    steps = list(struct.iter_unpack("=HBBI", syscall_filter(machine)))

    def verdict(arch: int, call: int) -> int:
        place, value = 0, 0
        while True:
            code, yes, no, operand = steps[place]
            if code == 0x06:
                return int(operand)
            if code == 0x20:
                value = {0: call, 4: arch}[operand]
            else:
                place += yes if value == operand else no
            place += 1

    assert {n for n in range(1024) if verdict(architecture, n) == 0x7FFF0000} == set(calls)
    assert {verdict(architecture, n) for n in range(1024) if n not in calls} == {0x80000000}
    assert {verdict(architecture, 0x40000000 + n) for n in calls} == {0x80000000}  # the x32 calls
    assert {verdict(0x40000003, n) for n in range(1024)} == {0x80000000}  # 32-bit calls


def test_a_machine_without_a_filter_runs_nothing() -> None:
    with pytest.raises(OSError, match=r"no system call filter for .* on riscv64"):
        syscall_filter("riscv64")


def test_a_child_that_cannot_be_confined_is_an_error_and_not_a_wrong_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\ncat > /dev/null\nprintf '!no system call filter for linux on riscv64'\n")
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(SandboxUnavailableError, match=r"on riscv64; they need Linux on x86-64 or aarch64"):
        sandbox.call("def f():\n    return 1", "f", [[]])


def test_untrusted_code_cannot_pretend_that_it_is_not_confined() -> None:
    code = (
        "import os\nfor d in range(3, 16):\n    try:\n        os.write(d, b'!')\n    except OSError:\n        pass\n"
    )
    assert sandbox.call(code + "os._exit(0)", "f", [[]]) is None


def test_no_descriptor_and_no_child_is_left_behind() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for code in ("def f():\n    return 1", MISCHIEF["exit in the call"], "while True: pass"):
        sandbox.call(code, "f", [[]])
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_code_that_cannot_be_encoded_is_refused() -> None:
    assert sandbox.call("def f():\n    return '\ud800'", "f", [[]]) is None
