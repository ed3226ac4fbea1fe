"""Access keys: generated once, printed once, stored as their sha256.

A key has 256 random bits, so its plain sha256 cannot be reversed by search; the slow hash that passwords need is not
required. The file is YAML, readable by its owner only, and replaced atomically.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from serve_graph.config.access import KeyConfig
from serve_graph.errors import ConfigError

KEY_PREFIX = "sg-"


def new_key() -> str:
    """Generate a secret key."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def key_hash(key: str) -> str:
    """Return what is stored of a key: its sha256."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def read_keys(path: Path) -> tuple[KeyConfig, ...]:
    """Read the keys of a file, () if there is no file; raises ConfigError naming what is wrong with it."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) or []
        keys = tuple(KeyConfig.model_validate(entry) for entry in found)
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError) as error:
        raise ConfigError(f"the keys file {path} cannot be read ({type(error).__name__})") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "an entry"
        raise ConfigError(f"the keys file {path}: {where}: {first['msg']}") from error
    refuse_doubles(keys)
    return keys


def write_keys(path: Path, keys: Iterable[KeyConfig]) -> None:
    """Replace a keys file atomically, with permissions for its owner only from the start."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump([key.model_dump(mode="json", exclude_defaults=True) for key in keys], sort_keys=False)
    handle, scratch = tempfile.mkstemp(prefix=".keys-", dir=path.parent)  # created with mode 600
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(scratch, path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock a keys file against other writers: of two at once, one would lose a key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def refuse_doubles(keys: Sequence[KeyConfig]) -> None:
    """Raise ConfigError if two keys share a name or a secret: their bills could not be told apart."""
    for what in ("name", "sha256"):
        values = [getattr(key, what) for key in keys]
        if double := sorted({value for value in values if values.count(value) > 1}):
            raise ConfigError(f"two access keys have the same {what}: {double[0]}")


def changes_of_keys(before: Iterable[KeyConfig], after: Iterable[KeyConfig]) -> dict[str, Any]:
    """Return which keys came, went and changed, with their scopes and limits; {} where none did. No hashes."""
    old, new = ({key.name: key for key in keys} for keys in (before, after))
    shown = {
        "created": {name: _terms(key) for name, key in new.items() if name not in old},
        "revoked": sorted(old.keys() - new.keys()),
        "changed": {
            name: {field: [was.get(field), now.get(field)] for field in now if was.get(field) != now.get(field)}
            | ({"secret": "replaced"} if old[name].sha256 != key.sha256 else {})
            for name, key in new.items()
            if name in old and old[name] != key
            for was, now in [(_terms(old[name]), _terms(key))]
        },
    }
    return {what: keys for what, keys in shown.items() if keys}


def _terms(key: KeyConfig) -> dict[str, Any]:
    return key.model_dump(mode="json", exclude={"name", "sha256"})


class Keyring:
    """The keys in force: those of the configuration and those of a file that is re-read when it changes.

    If the file becomes unreadable, blank or is removed, its last keys stay in force until it can be read again. A file
    that says `[]` revokes them all: nobody is admitted until it lists a key again.

    `required`: whether every caller needs a key: there is or was any since start-up, or the file says `[]`, or there
    was one where the graph was started (the argument): a node that lacks the file admits nobody.
    """

    def __init__(self, fixed: Sequence[KeyConfig] = (), path: Path | None = None, *, required: bool = False) -> None:
        self.fixed = tuple(fixed)
        self.path = path
        self._stamp = _stamp(path)
        self._by_hash = self._read()
        self.required = required or bool(self._by_hash) or _revokes_all(path)

    @property
    def keys(self) -> tuple[KeyConfig, ...]:
        return tuple(self._by_hash.values())

    @property
    def changed_at(self) -> int | None:
        """When the file that is in force was written, in nanoseconds since 1970; None where there is none."""
        return None if self._stamp is None else self._stamp[0]

    def find(self, secret: str) -> KeyConfig | None:
        """Return the key with this secret. The lookup is by hash, so its timing reveals nothing about other keys."""
        return self._by_hash.get(key_hash(secret))

    def named(self, name: str) -> KeyConfig | None:
        """Return the key of that name if it is in force."""
        return next((key for key in self._by_hash.values() if key.name == name), None)

    def refresh(self) -> None:
        """Re-read the file if it changed; raises ConfigError if it is invalid, and keeps the previous keys."""
        stamp = _stamp(self.path)
        if stamp != self._stamp:
            fresh = self._read()
            if len(fresh) == len(self.fixed) < len(self._by_hash) and not _revokes_all(self.path):
                raise ConfigError(f"{self.path} is missing or blank; its last keys stay in force until a restart")
            self._by_hash, self._stamp = fresh, stamp
            self.required = self.required or bool(fresh) or _revokes_all(self.path)

    def _read(self) -> dict[str, KeyConfig]:
        keys = (*self.fixed, *(() if self.path is None else read_keys(self.path)))
        refuse_doubles(keys)
        return {key.sha256: key for key in keys}


def _revokes_all(path: Path | None) -> bool:
    """Whether the file explicitly lists no key, as `serve-graph keys revoke` leaves it, rather than being damaged."""
    try:
        return path is not None and yaml.safe_load(path.read_text(encoding="utf-8")) == []
    except OSError:
        return False


def _stamp(path: Path | None) -> tuple[int, int] | None:
    if path is None:
        return None
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino
