"""NumPy and Numba only: plain loops on arrays, compiled at first use and kept on disk.

Numba keeps compiled kernels beside their source or in the user's cache directory, and refuses to import one where
neither can be written: an installation that only root may write, run by a user without a home, as services and
containers are. Then they are kept in a directory of this process' own until it ends. What was compiled beside the
source already (`vedette warmup`, at the making of an image) is taken over in either case. `NUMBA_CACHE_DIR` names
another place. Not here: what is computed.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numba.core.caching
import numba.core.config

# Numba is not typed.
_caching: Any = numba.core.caching
_config: Any = numba.core.config


def keep_somewhere() -> Path | None:
    """See to it that compiled kernels can be kept; answers the directory if it lasts only as long as this process."""
    # Numba's locators answer for a function in a file, and all files of a folder go to one place: any function will do.
    if _config.CACHE_DIR or _caching.InTreeCacheLocator.from_function(keep_somewhere, __file__) is not None:
        return None
    beside = Path(__file__).parent / "__pycache__"
    if (users := _caching.UserWideCacheLocator.from_function(keep_somewhere, __file__)) is not None:
        take_over(beside, Path(users.get_cache_path()))
        return None
    # Fresh, and closed to others: kernels are code, and whoever could write here could have theirs run.
    passing = Path(tempfile.mkdtemp(prefix="vedette-kernels-"))
    atexit.register(shutil.rmtree, passing, ignore_errors=True)
    _config.CACHE_DIR = str(passing)
    take_over(beside, Path(_caching.UserProvidedCacheLocator(keep_somewhere, __file__).get_cache_path()))
    return passing


def take_over(there: Path, here: Path) -> None:
    """Copy the compiled kernels of one directory that another does not have; Numba itself sees which are out of date."""
    here.mkdir(parents=True, exist_ok=True)
    for kept in there.glob("*.nb[ic]"):
        if not (here / kept.name).exists():
            # Renamed in, for another process may look for it just now.
            handle, half = tempfile.mkstemp(dir=here)
            os.close(handle)
            shutil.copyfile(kept, half)
            Path(half).rename(here / kept.name)


PASSING = keep_somewhere()
"""Where kernels are kept until this process ends, None where they are kept for good."""
