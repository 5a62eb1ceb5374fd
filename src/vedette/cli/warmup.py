"""`vedette warmup`: compile every kernel, with a bar, so that no start has to."""

from __future__ import annotations

import logging
import time

import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from vedette import warm


def run() -> None:
    """Compile all kernels and say how long it took."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    console, started = Console(highlight=False), time.perf_counter()
    columns = (TextColumn("[progress.description]{task.description:<44.44}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("loading", total=warm.STEPS)
        for name, step in warm.steps():
            progress.update(task, description=name)
            step()
            progress.advance(task)
    console.print(f"[green]ok[/green] all kernels are compiled and cached ({time.perf_counter() - started:.1f} s)")
