"""Python threads that run kernels side by side: kernels release the interpreter lock."""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral


def check_threads(threads: int) -> None:
    """Refuse what is no number of threads."""
    if (type(threads) is not int and not isinstance(threads, Integral)) or threads < 1:
        raise ValueError(f"expected at least 1 thread, got {threads!r}")


@functools.cache
def pool(threads: int) -> ThreadPoolExecutor:
    """So many threads, started once and kept: starting one costs as much as a small product."""
    return ThreadPoolExecutor(threads, thread_name_prefix="neurosim-kernels")


os.register_at_fork(after_in_child=pool.cache_clear)  # threads do not survive a fork
