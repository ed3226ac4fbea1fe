"""One thread for products so small that several would only wait for each other."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any


def one_blas_thread() -> AbstractContextManager[Any]:
    """Limit BLAS to one thread while it is entered.

    The loaded libraries are looked for once in a process: looking takes 5 ms and more, longer than most fits.
    """
    limited: AbstractContextManager[Any] = _blas().limit(limits=1)
    return limited


@cache
def _blas() -> Any:
    import scipy.linalg  # noqa: F401 (brings the libraries that fits call)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")
