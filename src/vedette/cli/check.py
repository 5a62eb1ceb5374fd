"""`vedette check`, `vedette config` and `vedette version`: look, and touch nothing."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vedette.errors import BadInput

if TYPE_CHECKING:
    from vedette.promql.settings import Features


def config(files: list[Path], *, alertmanager: bool) -> None:
    """Check configuration files, for a Prometheus configuration also the rule files it names; the exit status is 2 where one is bad."""
    console = Console(highlight=False)
    if not _all_good(files, lambda file: _alertmanager(file, console) if alertmanager else _config(file, console)):
        raise SystemExit(2)


def rules(files: list[Path]) -> None:
    """Check rule files; every bad one is reported before the exit status is set."""
    from vedette.promql.parse import NO_FEATURES

    if not _rules(files, NO_FEATURES, Console(highlight=False)):
        raise SystemExit(2)


def _all_good(files: list[Path], check: Callable[[Path], bool]) -> bool:
    """Check them all, whatever is wrong with one, and tell what that is."""
    good = True
    for file in files:
        try:
            good = check(file) and good
        except BadInput as error:
            print(f"vedette: {error}", file=sys.stderr)
            good = False
    return good


def _alertmanager(file: Path, console: Console) -> bool:
    from vedette.notify.config import load

    console.print(f"[green]ok[/green] {file}: {len(load(file).receivers)} receivers")
    return True


def _config(file: Path, console: Console) -> bool:
    from vedette.settings import resolve

    settings = resolve(path=file, environment={}, dotenv=None)
    jobs = settings.collect().jobs
    settings.forwards()
    console.print(f"[green]ok[/green] {file}: {len(jobs)} scrape configs, {len(settings.config.rule_files)} rule file patterns")
    return _rules(settings.rule_paths(), settings.vedette.promql.features, console)


def _rules(files: list[Path], features: Features, console: Console) -> bool:
    from vedette.rules.files import load

    def good(file: Path) -> bool:
        groups = load(file, features=features)
        count = sum(len(g.rules) for g in groups)
        console.print(f"[green]ok[/green] {file}: {len(groups)} groups, {count} rules")
        return True

    return _all_good(files, good)


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
