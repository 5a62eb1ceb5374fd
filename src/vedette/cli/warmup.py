"""`vedette warmup`: compile every kernel, with a bar, so that no start has to."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait

import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from vedette import warm
from vedette.clock import SystemClock
from vedette.kernels.compiling import Compilers


def run() -> None:
    """Compile all kernels and say how long it took."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    console, started = Console(highlight=False), time.perf_counter()
    columns = (TextColumn("[progress.description]{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    compilers = Compilers()
    compilers.open()
    stop = threading.Event()
    warming = warm.Warming(compilers, SystemClock(), stop.is_set)
    with Progress(*columns, console=console, transient=True) as progress, ThreadPoolExecutor(len(warm.LANES)) as pool:
        task = progress.add_task("compiling", total=sum(warm.STEPS))
        try:
            lanes = warming.all_at_once()
            begun = [pool.submit(lane) for lane in lanes]
            while wait(begun, timeout=0.1).not_done:
                progress.update(task, completed=warming.done)
            for lane in begun:
                lane.result()
        finally:
            # Ctrl-C, too: what is being compiled is not waited for.
            stop.set()
            compilers.close()
    warming.finish()
    console.print(f"[green]ok[/green] all kernels are compiled and cached ({time.perf_counter() - started:.1f} s)")
