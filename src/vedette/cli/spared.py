"""Modules that a server does without, though libraries would import them where they are installed. Not here: which (`main.py`)."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def spared(*names: str) -> Iterator[None]:
    """Within, an import of one of these modules fails as if it were not installed; what is imported already stays, and works.

    For the imports of libraries to which they are optional. Afterwards they can be imported as ever.
    """
    missing = [name for name in names if name not in sys.modules]
    # None is how the import system is told that there is no such module.
    sys.modules.update(dict.fromkeys(missing))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]
