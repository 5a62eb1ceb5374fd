"""The `vedette` command: a server is started at once, everything else by way of `verbs.py`.

A server runs for months, and what its command line would be read with (a parser, its validation, a terminal's colours) is fifteen
megabytes for as long as it does. So plain arguments of `serve` are read here; whatever is not plain, help and mistakes included, is
left to the parser, which knows the same options.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vedette.cli.spared import spared
from vedette.errors import BadInput, VedetteError

PATHS = {"--config": "config", "-c": "config", "--alertmanager-config": "alertmanager_config", "--data": "data"}
TEXTS = {"--host": "host", "--port": "port", "--graphite": "graphite", "--statsd": "statsd"}
LISTS = {"--listen": "listen", "--enable-feature": "features"}
SWITCHES = {"--insecure": "insecure"}
"""The options of `serve`, as `verbs.serve` has them, and what `cli.serve.run` calls them."""


def plain(arguments: Sequence[str]) -> dict[str, Any] | None:
    """What `cli.serve.run` is called with for these arguments of `serve`; None where the parser shall look at them."""
    found: dict[str, Any] = dict.fromkeys([*PATHS.values(), *TEXTS.values()])
    found |= {"listen": [], "features": [], "insecure": False}
    remaining = list(arguments)
    while remaining:
        option, equals, value = remaining.pop(0).partition("=")
        if option in SWITCHES and not equals:
            found[SWITCHES[option]] = True
            continue
        if not equals or not option.startswith("--"):
            if equals or not remaining:
                return None
            value = remaining.pop(0)
        if not value or value.startswith("-"):
            return None
        if option in LISTS:
            found[LISTS[option]].append(value)
        elif option in PATHS:
            found[PATHS[option]] = Path(value)
        elif option in TEXTS:
            found[TEXTS[option]] = value
        else:
            return None
    return found


def _quietly() -> None:
    """Log to stderr, and warnings alone: what the engine tells of its work is for a server's log; `serve` sets its own."""
    import structlog

    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger("warning"), logger_factory=structlog.PrintLoggerFactory(sys.stderr)
    )


def _serve(arguments: dict[str, Any]) -> None:
    # A log that no terminal shows is JSON, and needs no colours.
    with contextlib.nullcontext() if sys.stderr.isatty() else spared("rich", "pygments"):
        _quietly()
        from vedette.cli.serve import run
    run(arguments.pop("config"), arguments.pop("alertmanager_config"), **arguments)


def main() -> None:
    """Run the command line; what Vedette refuses is one line on stderr: exit status 2 for bad input, 1 for the rest."""
    try:
        if sys.argv[1:2] == ["serve"] and (arguments := plain(sys.argv[2:])) is not None:
            _serve(arguments)
        else:
            # What a verb prints of itself needs no colours of a log's; its tables and help import them where they are wanted.
            with contextlib.nullcontext() if sys.argv[1:2] == ["serve"] else spared("rich", "pygments"):
                _quietly()
            from vedette.cli.verbs import app

            app()
    except VedetteError as error:
        text = " ".join(str(error).split())
        print(f"vedette: {text}", file=sys.stderr)
        raise SystemExit(2 if isinstance(error, BadInput) else 1) from None


if __name__ == "__main__":
    main()
