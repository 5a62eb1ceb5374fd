"""Influx line protocol read one character at a time, in plain Python: the twin of `kernels/influx.py`."""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass

WORDS = {"t": 1.0, "T": 1.0, "true": 1.0, "True": 1.0, "TRUE": 1.0, "f": 0.0, "F": 0.0, "false": 0.0, "False": 0.0, "FALSE": 0.0}
FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?[iI][nN][fF]([iI][nN][iI][tT][yY])?|[nN][aA][nN]", re.ASCII)


class Bad(Exception):
    """A line that cannot be read."""


@dataclass
class Point:
    measurement: str
    tags: list[tuple[str, str]]
    fields: list[tuple[str, float]]
    strings: int
    time: int | None


def _until(text: str, at: int, stops: str) -> int:
    while at < len(text) and text[at] not in stops + "\n":
        at += 2 if text[at] == "\\" and text[at + 1 : at + 2] not in ("", "\n") else 1
    return min(at, len(text))


def _plain(text: str) -> str:
    return re.sub(r"\\([ ,=\\])", r"\1", text)


def _number(text: str) -> float:
    if text in WORDS:
        return WORDS[text]
    if text[-1:] in ("i", "u"):
        if not re.fullmatch(r"[+-]?\d+" if text[-1] == "i" else r"\d+", text[:-1], re.ASCII):
            raise Bad
        text = text[:-1]
    if not FLOAT.fullmatch(text):
        raise Bad
    return float(text)


def point(text: str, at: int) -> tuple[Point, int]:
    """The point at `at`, and the position of the end of its line. Raises `Bad`."""
    end = _until(text, at, ", ")
    if end == at and text[at : at + 1] == ",":
        raise Bad
    found = Point(_plain(text[at:end]), [], [], 0, None)
    at = end
    while text[at : at + 1] == ",":
        name = _until(text, at + 1, ",= ")
        if name == at + 1 or text[name : name + 1] != "=":
            raise Bad
        end = _until(text, name + 1, ", ")
        found.tags.append((_plain(text[at + 1 : name]), _plain(text[name + 1 : end])))
        at = end
    if text[at : at + 1] != " ":
        raise Bad
    at += len(text[at:]) - len(text[at:].lstrip(" "))
    while True:
        name = _until(text, at, ",= ")
        if name == at or text[name : name + 1] != "=":
            raise Bad
        field, at = _plain(text[at:name]), name + 1
        if text[at : at + 1] == '"':
            at += 1
            while at < len(text) and text[at] != '"':
                at += 2 if text[at] == "\\" else 1
            if at >= len(text):
                raise Bad
            at += 1
            found.strings += 1
        else:
            found_value = re.compile(r"[^, \n\r]+").match(text, at)
            if found_value is None:
                raise Bad
            found.fields.append((field, _number(found_value.group())))
            at = found_value.end()
        if text[at : at + 1] != ",":
            break
        at += 1
    rest = re.compile(r"( +(-?\d+))?[ \r]*(?=\n|\Z)|[\r ]+(?=\n|\Z)", re.ASCII).match(text, at)
    if rest is None:
        raise Bad
    if rest.group(2):
        found.time = int(rest.group(2))
        if len(rest.group(2).lstrip("-")) > 19 or abs(found.time) > 9 * 10**18:
            raise Bad
    return found, rest.end()


def points(text: str) -> tuple[list[Point], int]:
    """All points of a text, and how many lines were left out."""
    found, bad, at = [], 0, 0
    while at < len(text):
        at += len(text[at:]) - len(text[at:].lstrip(" \t\r"))
        if at < len(text) and text[at] not in "#\n":
            try:
                one, at = point(text, at)
                found.append(one)
            except Bad:
                bad += 1
        end = text.find("\n", at)
        at = len(text) if end < 0 else end + 1
    return found, bad


def bits(value: float) -> int:
    """What a value is compared by."""
    return 0x7FF8000000000001 if math.isnan(value) else struct.unpack("<Q", struct.pack("<d", value))[0]
