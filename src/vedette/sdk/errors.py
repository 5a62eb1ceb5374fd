"""Error reporting: exceptions counted by type and place, logged once with their context, the last of them at hand."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Counter

log = logging.getLogger("vedette.sdk")

KEPT = 100
"""So many of the last errors are kept."""


class ErrorReporter:
    """`service_errors_total{type, where}` in `registry`. Thread-safe."""

    def __init__(self, service: str = "", *, registry: CollectorRegistry = REGISTRY) -> None:
        self._service = service
        self._counter = Counter("service_errors_total", "Errors by type and place.", ["service", "type", "where"], registry=registry)
        self._last: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._lock = threading.Lock()

    def report(self, error: BaseException, *, where: str = "", **context: Any) -> None:
        """Count, log and keep an exception; `context` goes into the log and stays with it."""
        kind = type(error).__name__
        self._counter.labels(self._service, kind, where).inc()
        with self._lock:
            self._last.append({"type": kind, "message": str(error), "where": where, "context": context, "timestamp": time.time()})
        log.error("%s in %s: %s", kind, where or "the application", error, exc_info=error, extra={"context": context})

    @contextmanager
    def reporting(self, where: str = "", **context: Any) -> Iterator[None]:
        """Report what the block raises, and let it go on."""
        try:
            yield
        except Exception as error:
            self.report(error, where=where, **context)
            raise

    def last(self) -> list[dict[str, Any]]:
        """The last errors, the newest first."""
        with self._lock:
            return list(self._last)[::-1]
