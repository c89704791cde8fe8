"""What glibc's allocator keeps of freed memory. With other C libraries nothing happens."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ctypes

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_MAX_INT32 = 2**31 - 1
_MAX_ARENAS_OF_A_RUN = 2


def retain_freed_memory() -> None:
    """Have glibc hand freed activations to the next training step and not to the system, which
    would clear every page again: a fifth of a step of a small network on a CPU."""
    _set_options({_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _MAX_INT32})


def limit_arenas() -> None:
    """Have a run's threads share their heaps: by default each core has eight, and what one thread
    freed is of no use to another. To be called before threads start."""
    _set_options({_M_ARENA_MAX: _MAX_ARENAS_OF_A_RUN})


def return_freed_memory() -> None:
    """Give to the system what loading a model took for a while: 12 MB after OpenVINO compiled."""
    if libc := _find_glibc():
        libc.malloc_trim(0)


def _set_options(values: dict[int, int]) -> None:
    if libc := _find_glibc():
        for option, value in values.items():
            libc.mallopt(option, value)


def _find_glibc() -> "ctypes.CDLL | None":
    import ctypes  # not where only a command's help is shown

    if not sys.platform.startswith("linux"):
        return None
    try:
        libc = ctypes.CDLL("libc.so.6")
        return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
    except OSError:  # musl
        return None
