"""What the process is: the commit it runs from, and how it writes its log. Not here: what it serves (`app.py`)."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import structlog

from vedette.net.trace import noted


@functools.cache
def commit_of_checkout() -> str:
    """The commit that is checked out where this runs from source, "" for an installed package."""
    git = Path(__file__).parents[2] / ".git"
    try:
        head = (git / "HEAD").read_text("ascii").strip()
        if not head.startswith("ref: "):
            return head
        ref = git / head.removeprefix("ref: ")
        if ref.is_file():
            return ref.read_text("ascii").strip()
        packed = (git / "packed-refs").read_text("ascii").splitlines()
        return next((line.split()[0] for line in packed if line.endswith(f" {head.removeprefix('ref: ')}")), "")
    except OSError:
        return ""


def documented(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: a line's fields under the names, and in the order, of the metrics service's document."""
    first = {"timestamp": event.pop("timestamp", None), "level": str(event.pop("level", "")).upper(), "service": "vedette"}
    return {**first, "message": event.pop("event", ""), **event}


def configure_logging(level: str, *, keep: Any = None) -> None:
    """JSON lines on stderr, readable lines on a terminal; of libraries (the HTTP server, say) their warnings, in the same form.

    `keep` is a structlog processor that sees each line, too.
    """
    shown: list[Any] = [structlog.dev.ConsoleRenderer()] if sys.stderr.isatty() else [documented, structlog.processors.JSONRenderer()]
    common: list[Any] = [
        noted,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        *([keep] if keep is not None else []),
    ]
    structlog.configure(
        processors=[*common, *shown],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    libraries = logging.StreamHandler(sys.stderr)
    meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    libraries.setFormatter(
        structlog.stdlib.ProcessorFormatter(processors=[meta, *shown], foreign_pre_chain=[structlog.stdlib.add_logger_name, *common])
    )
    logging.basicConfig(level=logging.WARNING, handlers=[libraries])
