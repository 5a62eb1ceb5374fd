"""A process that compiles kernels for another (`compiling.py`): reads which, compiles, has Numba keep it, and says so.

It ends with its input. Not here: what it is asked in which order.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import sys
from typing import BinaryIO

import structlog

from vedette.kernels.compiling import FAILED, KEPT, NOT_KEPT, REQUEST, on_disk

_log = structlog.get_logger(__name__)


def serve(asked: BinaryIO, answers: BinaryIO) -> None:
    """Compile what is asked for until nothing more is."""
    while len(head := asked.read(REQUEST.size)) == REQUEST.size:
        module, name, types = pickle.loads(asked.read(*REQUEST.unpack(head)))  # noqa: S301 - from the server that started this process
        kernel = getattr(importlib.import_module(module), name)
        try:
            kernel.compile(types)
            answer = KEPT if on_disk(kernel, types) else NOT_KEPT
        except Exception as error:  # noqa: BLE001 - the loop's edge: whoever needs the kernel meets the same where it can be told
            _log.warning("a kernel could not be compiled", kernel=f"{module}.{name}", reason=str(error).split("\n", 1)[0])
            answer = FAILED
        answers.write(answer)
        answers.flush()


def main() -> None:
    """Serve standard input; what is printed goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    with contextlib.suppress(BrokenPipeError):
        serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
