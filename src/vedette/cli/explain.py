"""What a query cost, as a tree: each operation above those that feed it, with rows, bytes and milliseconds."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

_UNITS = ("B", "KiB", "MiB", "GiB")


def size(count: float) -> str:
    """A count of bytes for people."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"


def show(console: Console, data: dict[str, Any]) -> None:
    """Print the tree of an answer that was asked for with `explain` and `stats`."""
    explained, stats = data["explain"], data["stats"]
    operations: list[dict[str, Any]] = explained["operations"]
    tree = Tree(_line(operations[explained["result"]], explained))
    seen = {explained["result"]}
    # Without recursion, since queries nest deeply; an operation that feeds several stands in full once.
    stack = [(tree, operations[explained["result"]])]
    while stack:
        branch, operation = stack.pop()
        for i in operation["inputs"]:
            if i in seen:
                branch.add(f"[dim]{escape(operations[i]['operation'])} (above)[/dim]")
                continue
            seen.add(i)
            stack.append((branch.add(_line(operations[i], explained)), operations[i]))
    console.print(tree)
    samples, timings = stats["samples"], stats["timings"]
    console.print(
        f"[dim]{timings['execTotalTime'] * 1000:.1f} ms, of which {timings['execQueueTime'] * 1000:.1f} ms in the queue; "
        f"{samples['samplesRead']} samples read, {samples['peakSamples']} held at most, {samples['totalQueryableSamples']} seen[/dim]"
    )


def _line(operation: dict[str, Any], explained: dict[str, Any]) -> str:
    parts = [f"{operation['rows']} rows"]
    if operation["steps"]:
        parts.append(f"{operation['steps']} steps")
    # What is streamed has no time of its own: who reads it computes it.
    parts += ["streamed"] if operation["streamed"] else [size(operation["bytes"]), f"{operation['seconds'] * 1000:.2f} ms"]
    if operation["read"] is not None:
        read = explained["reads"][operation["read"]]
        parts.append(f"read {read['samples']} samples of {read['series']} series in {read['seconds'] * 1000:.2f} ms")
    return f"[bold]{escape(operation['operation'])}[/bold]  [cyan]{escape(', '.join(parts))}[/cyan]"
