"""`vedette check`, `vedette config` and `vedette version`: look, and touch nothing."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vedette.errors import BadInput

if TYPE_CHECKING:
    from vedette.promql.settings import Features


def config(file: Path, *, alertmanager: bool) -> None:
    """Check one configuration file; for a Prometheus configuration also the rule files it names."""
    console = Console(highlight=False)
    if alertmanager:
        from vedette.notify.config import load

        loaded = load(file)
        console.print(f"[green]ok[/green] {file}: {len(loaded.receivers)} receivers")
        return
    from vedette.settings import resolve

    settings = resolve(path=file, environment={}, dotenv=None)
    jobs = settings.collect().jobs
    settings.forwards()
    console.print(f"[green]ok[/green] {file}: {len(jobs)} scrape configs, {len(settings.config.rule_files)} rule file patterns")
    rules(settings.rule_paths(), features=settings.vedette.promql.features)


def rules(files: list[Path], *, features: Features | None = None) -> None:
    """Check rule files; every bad one is reported before the exit status is set."""
    from vedette.promql.parse import NO_FEATURES
    from vedette.rules.files import load

    console, failed = Console(highlight=False), False
    for file in files:
        try:
            groups = load(file, features=features or NO_FEATURES)
        except BadInput as error:
            print(f"vedette: {error}", file=sys.stderr)
            failed = True
            continue
        count = sum(len(g.rules) for g in groups)
        console.print(f"[green]ok[/green] {file}: {len(groups)} groups, {count} rules")
    if failed:
        raise SystemExit(2)


def show(path: Path | None, *, data: Path | None) -> None:
    """Print every setting, its value and its source as a table."""
    from vedette.settings import resolve

    flags = {("storage", "data"): data} if data else {}
    settings = resolve(path=path, flags=flags, environment=os.environ)
    table = Table("setting", "value", "comes from", box=None, header_style="bold", pad_edge=False)
    for origin in settings.origins:
        source = f"[dim]{origin.source}[/dim]" if origin.source == "default" else escape(origin.source)
        table.add_row(origin.setting, escape(origin.text) or "[dim]none[/dim]", source)
    console = Console(highlight=False)
    console.print(table)
    for variable, meant in settings.strangers:
        print(f"vedette: {variable} is no setting" + (f" (did you mean {meant}?)" if meant else ""), file=sys.stderr)
    if settings.path:
        console.print(f"\n[bold]{settings.path}[/bold]")
        console.print(settings.text, markup=False)


def version() -> None:
    """Print versions, one a line."""
    print(f"vedette {installed('vedette')}")
    print(f"python {platform.python_version()}, numba {installed('numba')}, numpy {installed('numpy')}")
