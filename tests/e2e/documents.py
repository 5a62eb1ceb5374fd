"""The service documents as a client's author reads them: their curl lines and JSON examples, with the request that each belongs to.

Not here: what is promised in prose. Times are moved so that the latest one of a document is ten seconds ago: its examples are
too old to be kept.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

_TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_REQUEST = re.compile(r"\b(GET|POST)\b[\s*`]+(/[^\s`*]*)")
_FORM = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Example:
    """A JSON example: `answers` says whether the server sends it (else the client does). `line` is where it begins."""

    method: str
    path: str
    answers: bool
    value: Any
    line: int


def recent(text: str) -> str:
    """The text with its times moved, all by as much."""
    times = [datetime.strptime(found, _FORM).replace(tzinfo=UTC) for found in _TIME.findall(text)]
    if not times:
        return text
    moved = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=10) - max(times)
    return _TIME.sub(lambda found: (datetime.strptime(found[0], _FORM).replace(tzinfo=UTC) + moved).strftime(_FORM), text)


def curls(text: str) -> list[list[str]]:
    """The words of every command that begins with curl."""
    found = []
    for start in re.finditer(r"^curl ", text, re.MULTILINE):
        lines = text[start.start() :].splitlines()
        for end in range(1, len(lines) + 1):
            if lines[end - 1].endswith("\\"):
                continue
            try:
                found.append(shlex.split("\n".join(lines[:end]).replace("\\\n", " ")))
            except ValueError:
                continue  # within quotes: the command goes on
            break
    return found


def examples(text: str) -> Iterator[Example]:
    """The JSON examples of requests and answers. One below a heading without a request (a log line's form) is none of them."""
    method = path = ""
    answers, at = False, 0
    lines = text.splitlines(keepends=True)
    decoder = json.JSONDecoder()
    skip_to = 0
    for number, line in enumerate(lines, 1):
        begin, at = at, at + len(line)
        if begin < skip_to:
            continue
        if line.startswith(("## ", "### ", "#### ")):
            method = path = ""
        if found := _REQUEST.search(line):
            (method, path), answers = found.groups(), False
        elif "Response" in line:
            answers = True
        elif "Request Body" in line:
            answers = False
        elif line[0] in "{[" and method:
            try:
                value, skip_to = decoder.raw_decode(text, begin)
            except json.JSONDecodeError:
                continue  # `[Unit]`, and the like
            yield Example(method, path, answers, value, number)


def getting(text: str) -> list[str]:
    """Every path that the document says can be read, in its order, once."""
    return list(dict.fromkeys(path for method, path in _REQUEST.findall(text) if method == "GET"))


def misfit(example: Any, answer: Any, where: str = "$") -> list[str]:
    """In what an answer does not have an example's shape: fields that are absent, types that are others.

    More fields than the example's are no misfit. A component or group that is `not_configured` needs no other. Objects whose keys
    are names (`labels`, `errors_by_type`) are compared by their values only; every item of a list has what all items of the
    example's have in common.
    """
    if isinstance(example, dict):
        if not isinstance(answer, dict):
            return [f"{where}: {answer!r} is no object"]
        if where.rpartition(".")[2] in ("labels", "metadata", "errors_by_type", "errors_by_service"):
            one = type(next(iter(example.values())))
            return [] if where.endswith("metadata") else [f"{where}.{k}: {v!r}" for k, v in answer.items() if not isinstance(v, one)]
        if answer.get("status") == "not_configured":
            return []
        lacking = [f"{where}.{key} is absent" for key in example if key not in answer]
        return lacking + [each for key in example if key in answer for each in misfit(example[key], answer[key], f"{where}.{key}")]
    if isinstance(example, list):
        if not isinstance(answer, list) or (example and not answer):
            return [f"{where}: {answer!r} is no list, or empty"]
        if not example or not isinstance(example[0], dict):
            return [each for n, item in enumerate(answer) for each in misfit(example[0], item, f"{where}[{n}]")] if example else []
        common = set.intersection(*(set(item) for item in example))
        wanted = {key: example[0][key] for key in example[0] if key in common}
        return [each for n, item in enumerate(answer) for each in misfit(wanted, item, f"{where}[{n}]")]
    if isinstance(example, bool) or not isinstance(example, int | float):
        same = type(example) is type(answer) and (not _is_time(example) or _is_time(answer))
    else:
        same = isinstance(answer, int | float) and not isinstance(answer, bool)
    return [] if same else [f"{where}: {answer!r} where the document has {example!r}"]


def _is_time(text: Any) -> bool:
    if not isinstance(text, str) or not re.match(r"\d{4}-\d\d-\d\dT", text):
        return False
    datetime.fromisoformat(text)
    return True


def read(folder: Path, beginning: str) -> str:
    """The text of the document whose file's name begins so."""
    (file,) = folder.glob(f"{beginning}_*.txt")
    return recent(file.read_text(encoding="utf-8"))
