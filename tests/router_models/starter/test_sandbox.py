"""The sandbox: honest code runs; every kind of mischief ends promptly and earns nothing."""

import os
import time
from pathlib import Path

import pytest

from router_models.starter import sandbox
from router_models.starter.program import marks_program

PROMPTLY_S = 12.0  # about 2 s on an idle machine; a runner busy with engines takes seconds to start a process
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
    assert sandbox.call(code, "f", [[]]) == [[[], 2]]


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


def test_temporary_folder_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert sandbox.call("def f():\n    return 1", "f", [[]]) == [1]
    assert list(tmp_path.iterdir()) == []


def test_no_descriptor_and_no_child_is_left_behind() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for code in ("def f():\n    return 1", MISCHIEF["exit in the call"], "while True: pass"):
        sandbox.call(code, "f", [[]])
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_code_that_cannot_be_encoded_is_refused() -> None:
    assert sandbox.call("def f():\n    return '\ud800'", "f", [[]]) is None
