"""Memory that was let go of, given back to the system.

What is freed in small pieces (request bodies, batches) the C library keeps for the next ones, and after a burst that is a tenth
of a server's memory. Not here: what is held on purpose.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable


def _trim() -> Callable[[int], int] | None:
    """glibc's `malloc_trim`, None where the C library is another."""
    if not sys.platform.startswith("linux"):
        return None
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return found


def give_back() -> None:
    """Give free memory back; takes milliseconds, and holds up no other thread of Python meanwhile."""
    if (trim := _trim()) is not None:
        trim(0)
