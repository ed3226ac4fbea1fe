"""A network of its own for a run: this process outside, and nodes that are hosts of their own as far as Linux goes.

`in_own_namespaces` starts this program anew in network, mount and process namespaces: nothing of a run can be reached
from elsewhere or reach anything, and all of it ends with this process, killed or not. A node has such namespaces
again, a link to a bridge out here, and a folder that it alone sees, at one path for all. Addresses are of the block
that is kept for documentation.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

INSIDE = "SERVE_GRAPH_NODES_INSIDE"
NETWORK, OUTSIDE = "192.0.2.0/24", "192.0.2.1"
BRIDGE = "outside"
HERE = Path(__file__).parent


def inside() -> bool:
    """Whether this process has namespaces of its own already."""
    return os.environ.get(INSIDE) == "yes"


def in_own_namespaces(arguments: list[str]) -> None:
    """Return where this process has namespaces of its own already; else become `python -m` that has.

    Raises
    ------
    PermissionError
        This user or machine may not make namespaces.
    """
    if inside():
        words("ip", "link", "set", "lo", "up")
        words("ip", "link", "add", BRIDGE, "type", "bridge")
        words("ip", "addr", "add", f"{OUTSIDE}/24", "dev", BRIDGE)
        words("ip", "link", "set", BRIDGE, "up")
        return
    if reason := why_not():
        raise PermissionError(reason)
    command = [*_UNSHARE, sys.executable, *arguments]
    os.execvpe(command[0], command, os.environ | {INSIDE: "yes"})


_UNSHARE = ["unshare", "--net", "--mount", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc"]


def why_not() -> str:
    """Why no namespaces can be made here; '' where they can."""
    try:
        made = [*_UNSHARE, "ip", "link", "add", "left", "type", "veth", "peer", "name", "right"]
        done = subprocess.run(made, capture_output=True, text=True, timeout=30, check=False)
    except OSError as error:
        return f"{error} (Debian: apt-get install util-linux iproute2)"
    return "" if done.returncode == 0 else f"`{' '.join(made)}`: {done.stderr.strip()}"


def words(*command: str) -> None:
    """Run a command; raises with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


@dataclass
class Host:
    """A node: `name` and the last part of its address; `arguments` are those of its `ray start`."""

    name: str
    number: int
    root: Path
    arguments: list[str]
    environment: dict[str, str]
    lives: int = 0
    process: subprocess.Popen[bytes] | None = None
    _logs: list[IO[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"{NETWORK.rpartition('.')[0]}.{self.number}"

    @property
    def link(self) -> str:
        return f"to-{self.number}"  # an interface has a short name

    @property
    def volume(self) -> Path:
        """What outlives the node: its spool."""
        return self.root / "volumes" / self.name

    @property
    def folder(self) -> Path:
        """The node's own disk, of its present life; out here, another path than in there."""
        return self.root / "disks" / f"{self.name}-{self.lives}"

    @property
    def log(self) -> str:
        return (self.root / f"{self.name}-{self.lives}.log").read_text(errors="replace")

    def start(self) -> None:
        """Begin a life with an empty disk and the volume of before; Ray is started, and not waited for."""
        self.lives += 1
        for folder in (self.folder / "state" / "spool", self.folder / "etc", self.volume):
            folder.mkdir(parents=True, exist_ok=True)
        for path in (self.root / "mounted").iterdir():  # as a Secret or a ConfigMap would be
            (self.folder / "etc" / path.name).write_bytes(path.read_bytes())
        log = (self.root / f"{self.name}-{self.lives}.log").open("wb")
        self._logs.append(log)
        node = [sys.executable, str(HERE / "node.py"), str(self.root / "node"), str(self.folder), str(self.volume)]
        command = [*_UNSHARE, *node, self.name, *self.arguments]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=os.environ | self.environment
        )
        time.sleep(0.5)
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # of a life that was killed a moment ago
            words("ip", "link", "del", self.link)
        words("ip", "link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", str(self.process.pid))
        words("ip", "link", "set", self.link, "master", BRIDGE, "up")
        inside = ["nsenter", "--net", "--target", str(self.process.pid), "ip"]
        words(*inside, "addr", "add", f"{self.address}/24", "dev", "eth0")
        words(*inside, "link", "set", "eth0", "up")
        words(*inside, "link", "set", "lo", "up")
        self.process.stdin.close()

    def cut(self) -> None:
        """Nothing passes any more, in either direction, and nobody is told."""
        words("ip", "link", "set", self.link, "down")

    def restore(self) -> None:
        words("ip", "link", "set", self.link, "up")

    @property
    def lives_still(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """As when power is cut: every process at once, and the link with them."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGKILL)  # its child is the first process of the namespace
        self.process.wait(30)
        with contextlib.suppress(OSError):
            words("ip", "link", "del", self.link)

    def memory_mb(self) -> float:
        """What its processes hold, by proportional share where the system tells it."""
        assert self.process is not None
        total = 0
        for one in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                total += one.memory_full_info().pss
        return total / 1e6
