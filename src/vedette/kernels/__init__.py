"""NumPy and Numba only: plain loops on arrays, compiled at first use and kept on disk.

Numba keeps compiled kernels beside their source or in the user's cache directory, and refuses to import one where
neither can be written: an installation that only root may write, run by a user without a home, as services and
containers are. Then they are kept in a directory of this process' own until it ends. What was compiled beside the
source already (`vedette warmup`, at the making of an image) is taken over in either case. `NUMBA_CACHE_DIR` names
another place. Where that is full, or can no longer be read, kernels are compiled all the same, and not kept. Not here: what is
computed, how a kernel is loaded (`loading.py`), where it is compiled (`compiling.py`).
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba.core.caching
import numba.core.config
import numba.core.dispatcher
import structlog

from vedette.kernels import compiling, loading
from vedette.kernels.kept import NAME as STAMP

# Numba is not typed.
_caching: Any = numba.core.caching
_config: Any = numba.core.config
_dispatcher: Any = numba.core.dispatcher
_log = structlog.get_logger(__name__)


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
    half = None
    try:
        here.mkdir(parents=True, exist_ok=True)
        # Last of all what tells that these are all there are.
        for kept in (*there.glob("*.nb[ic]"), *there.glob(STAMP)):
            if not (here / kept.name).exists():
                # Renamed in, for another process may look for it just now.
                handle, name = tempfile.mkstemp(dir=here)
                os.close(handle)
                half = Path(name)
                shutil.copyfile(kept, half)
                half.rename(here / kept.name)
    except OSError as error:
        # A full disk: what is not taken over is compiled again.
        _log.warning("compiled kernels could not be copied", reason=error.strerror, path=str(here))
        if half is not None:
            half.unlink(missing_ok=True)


def forgiving(work: Callable[..., Any], what: str) -> Callable[..., Any]:
    """`work` of Numba's cache, answering None where the disk fails: a kernel that cannot be kept computes as well as any other."""

    @functools.wraps(work)
    def worked(*arguments: Any) -> Any:
        try:
            return work(*arguments)
        except OSError as error:
            _log.warning(what, reason=error.strerror or str(error), path=str(error.filename or ""))
            return None

    return worked


# Numba has no switch for it, and lets what the disk refuses fail the first call of a kernel: a query, or a write.
_caching.Cache.save_overload = forgiving(_caching.Cache.save_overload, "a compiled kernel could not be kept")
_load = forgiving(loading.load_overload, "a kept kernel could not be read and is compiled again")
_caching.Cache.load_overload = compiling.in_turn(_load)
_dispatcher.Dispatcher.compile = compiling.compile_kernel
loading.lightly()

PASSING = keep_somewhere()
"""Where kernels are kept until this process ends, None where they are kept for good."""
