"""Latency tracking: how long operations take, as a decorator or a context manager."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from prometheus_client import REGISTRY, CollectorRegistry, Histogram

F = TypeVar("F", bound=Callable[..., Any])

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class LatencyTracker:
    """`operation_duration_seconds{operation, outcome}` in `registry`; the outcome is success or error."""

    def __init__(self, *, registry: CollectorRegistry = REGISTRY) -> None:
        names = ["operation", "outcome"]
        self._histogram = Histogram("operation_duration_seconds", "Time operations take.", names, buckets=BUCKETS_S, registry=registry)

    @contextmanager
    def measure(self, operation: str) -> Iterator[None]:
        """Time the block; what it raises goes on."""
        began, outcome = time.perf_counter(), "error"
        try:
            yield
            outcome = "success"
        finally:
            self._histogram.labels(operation, outcome).observe(time.perf_counter() - began)

    def track(self, operation: str = "") -> Callable[[F], F]:
        """A decorator for functions and coroutines; the operation is the function's name if none is given."""

        def wrap(function: F) -> F:
            name = operation or function.__qualname__
            if inspect.iscoroutinefunction(function):

                @functools.wraps(function)
                async def timed_async(*args: Any, **kwargs: Any) -> Any:
                    with self.measure(name):
                        return await function(*args, **kwargs)

                return cast(F, timed_async)

            @functools.wraps(function)
            def timed(*args: Any, **kwargs: Any) -> Any:
                with self.measure(name):
                    return function(*args, **kwargs)

            return cast(F, timed)

        return wrap
