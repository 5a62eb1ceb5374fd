"""What parsers find in a line: labels. Pure functions of the text, none of which takes more than linear time.

Not here: when they run, and what becomes of a label that is there already (`stages.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

import orjson
import re2

from vedette.errors import BadInput
from vedette.regex import bounded

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 8 << 20
_OPTIONS.dot_nl = False
_PAIR = re.compile(r'(?<!\S)([^\s=]++)(?:=(?:"((?:[^"\\]|\\.)*+)"|([^\s"]*+)))?(?=\s|\Z)')
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_CAPTURE = re.compile(r"<([a-zA-Z_]\w*)>", re.ASCII)
_STEP = re.compile(r'\.?([a-zA-Z_]\w*)|\[(?:(\d{1,6})|"((?:[^"\\]|\\.)*)"|`([^`]*)`)\]', re.ASCII)
_COLOURS = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)|[@-Z\\\\-_])|\x9b[0-?]*[ -/]*[@-~]")
_ADDRESS = re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}(?![\w])|[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7}(?![\w:]))")

Address = IPv4Address | IPv6Address


def regex(pattern: str, *, where: str) -> Any:
    """A compiled expression of RE2. Raises `BadInput`."""
    try:
        return bounded(pattern, _OPTIONS)
    except re2.error as error:
        detail = error.args[0] if error.args else "cannot be compiled"
        said = detail.decode("utf-8", "replace") if isinstance(detail, bytes) else str(detail)
        raise BadInput(f"bad regular expression {pattern[:200]!r}: {said}", where=where, hint="RE2 syntax") from None


def sanitized(name: str) -> str:
    """A label's name: what cannot stand in one becomes an underscore."""
    found = re.sub(r"\W", "_", name, flags=re.ASCII)
    return f"_{found}" if found[:1].isdigit() else found


def text_of(value: Any) -> str:
    """A JSON value as a label's: text as it is, the rest as JSON."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def of_json(line: str) -> dict[str, str] | None:
    """What is in a JSON object: nested names joined by underscores, no lists; None for what is no object."""
    found = _object(line)
    if found is None:
        return None
    labels: dict[str, str] = {}
    waiting: list[tuple[str, Any]] = [("", found)]
    while waiting:
        prefix, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(f"{prefix}_{k}" if prefix else k, v) for k, v in reversed(value.items())]
        elif not isinstance(value, list) and value is not None:
            labels[sanitized(prefix)] = text_of(value)
    return labels


def _object(line: str) -> dict[str, Any] | None:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def path_of(text: str) -> tuple[str | int, ...]:
    """The steps of `a.b[0]["c d"]`. Raises `BadInput`."""
    steps: list[str | int] = []
    at = 0
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None or (not at and text[0] == "."):
            said = f"cannot parse expression {text[:100]!r}: unexpected {text[at : at + 10]!r}"
            raise BadInput(said, hint='expected one such as a.b[0]["c"]')
        steps.append(int(found[2]) if found[2] else next(part for part in (found[1], found[3], found[4]) if part is not None))
        at = found.end()
    return tuple(steps)


def of_json_chosen(line: str, paths: tuple[tuple[str, tuple[str | int, ...]], ...]) -> dict[str, str] | None:
    """What stands at these paths; objects and lists as JSON, "" where there is nothing; None for what is no object."""
    found = _object(line)
    if found is None:
        return None
    labels = {}
    for label, steps in paths:
        value: Any = found
        for step in steps:
            if isinstance(step, int):
                value = value[step] if isinstance(value, list) and step < len(value) else None
            else:
                value = value.get(step) if isinstance(value, dict) else None
        labels[label] = "" if value is None else text_of(value)
    return labels


def of_logfmt(line: str, *, strict: bool, keep_empty: bool) -> dict[str, str] | None:
    """Pairs such as `a=b c="d e"`; None where `strict` and something is no pair."""
    labels: dict[str, str] = {}
    end = 0
    for found in _PAIR.finditer(line):
        if strict and line[end : found.start()].strip():
            return None
        end = found.end()
        if strict and "=" not in found[0]:
            return None
        value = found[3] or ""
        if found[2] is not None:
            value = _ESCAPE.sub(lambda m: _ESCAPES.get(m[1], m[1]), found[2])
        if value or keep_empty:
            labels[sanitized(found[1])] = value
    return None if strict and line[end:].strip() else labels


def logfmt_problem(line: str) -> str:
    """What is wrong with a line that is not logfmt, in the words of Loki's reader."""
    end = 0
    for found in _PAIR.finditer(line):
        if line[end : found.start()].strip() or "=" not in found[0]:
            break
        end = found.end()
    rest = line[end:].lstrip()
    return f"logfmt syntax error at pos {len(line) - len(rest) + 1} : unexpected '{rest[:1]}'"


def of_packed(line: str) -> tuple[dict[str, str], str] | None:
    """(labels, line) of what Promtail's `pack` made; None for what is no object."""
    found = _object(line)
    if found is None:
        return None
    entry = found.get("_entry")
    labels = {sanitized(k): v for k, v in found.items() if isinstance(v, str) and k != "_entry"}
    return labels, entry if isinstance(entry, str) else line


def by_regex(expression: str) -> Callable[[str], dict[str, str] | None]:
    """What an expression's named groups match. Raises `BadInput`."""
    compiled, names = regex(expression, where="regexp"), dict(groups_of(expression))

    def extract(line: str) -> dict[str, str] | None:
        found = compiled.search(line)
        return {} if found is None else {name: found.group(index) or "" for name, index in names.items()}

    return extract


def groups_of(expression: str) -> tuple[tuple[str, int], ...]:
    """The named groups of an expression, with their numbers. Raises `BadInput`, also where there is none."""
    names = tuple(regex(expression, where="regexp").groupindex.items())
    if not names:
        raise BadInput("at least one named capture must be supplied", where="regexp", hint="expected one such as (?P<name>\\w+)")
    return names


def by_pattern(expression: str) -> Callable[[str], dict[str, str] | None]:
    """What stands in the gaps of `<ip> - - <_> "<method> <path>`. Raises `BadInput`."""
    literals, names = _captures(expression)

    def extract(line: str) -> dict[str, str] | None:
        found: dict[str, str] = {}
        at = _begun(line, literals[0])
        if at < 0:
            return {}
        for name, literal in zip(names, literals[1:], strict=True):
            end = line.find(literal, at) if literal else len(line)
            if end < 0:
                if line[at:] and name != "_":
                    found[name] = line[at:]
                return found
            if name != "_":
                found[name] = line[at:end]
            at = end + len(literal)
        return found

    return extract


def pattern_as_regexes(expression: str) -> dict[str, str]:
    """For each name of a pattern an expression of RE2 whose first group holds what `by_pattern` finds. Raises `BadInput`.

    One each, which ends behind its name: RE2 takes several times as long for the groups of them all.
    """
    literals, names = _captures(expression)
    before, found = f"(?s){_verbatim(literals[0])}", {}
    for name, literal in zip(names, literals[1:], strict=True):
        gap = f"[^{_verbatim(literal)}]*" if len(literal) == 1 else ".*?" if literal else ".*"
        end = _verbatim(literal)
        if name != "_":
            # Where what ends it is not there, it goes on to the end of the line.
            found[name] = f"{before}({gap})(?:{end}|\\z)" if literal else f"{before}({gap})\\z"
        before += gap + end
    return found


def _verbatim(text: str) -> str:
    return re.sub(r"([^\w\x80-\U0010FFFF])", lambda m: f"\\x{{{ord(m[1]):x}}}", text, flags=re.ASCII)


def _captures(expression: str) -> tuple[list[str], list[str]]:
    literals, names = _pieces(expression)
    if not any(name != "_" for name in names):
        raise BadInput("at least one capture is required", where="pattern", hint="expected one such as <method> <path>")
    doubled = {name for name in names if name != "_" and names.count(name) > 1}
    if doubled:
        raise BadInput(f"duplicate capture name ({min(doubled)})", where="pattern")
    return literals, names


def _pieces(expression: str) -> tuple[list[str], list[str]]:
    parts = _CAPTURE.split(expression)
    literals, names = parts[::2], parts[1::2]
    if any(not literal for literal in literals[1:-1]):
        raise BadInput("consecutive captures are not allowed", where="pattern", hint="something must stand between two")
    return literals, names


def _begun(line: str, literal: str) -> int:
    at = line.find(literal)
    return at + len(literal) if at >= 0 else -1


def matches_pattern(expression: str) -> Callable[[str], bool]:
    """Whether a line has the parts around each `<_>` one after another. Raises `BadInput`."""
    literals, names = _pieces(expression)
    if any(name != "_" for name in names):
        raise BadInput("named captures are not allowed here", where="pattern", hint="expected <_>")

    def matches(line: str) -> bool:
        at = 0
        for i, literal in enumerate(literals):
            found = line.find(literal, at)
            # A gap between two parts holds at least one character.
            if i and found == at and literal:
                found = line.find(literal, at + 1)
            if found < 0:
                return False
            at = found + len(literal)
        return True

    return matches


def without_colours(line: str) -> str:
    """The line without the escape sequences of terminals."""
    return _COLOURS.sub("", line)


def addresses(wanted: str) -> Callable[[Address], bool]:
    """Whether an address is `192.168.4.5`, in `192.168.4.0/24`, or in `192.168.4.5-192.168.4.20`. Raises `BadInput`."""
    first, dash, last = wanted.partition("-")
    try:
        if dash:
            low, high = ip_address(first.strip()), ip_address(last.strip())
            if low.version != high.version or int(low) > int(high):
                raise ValueError
            return lambda one: one.version == low.version and int(low) <= int(one) <= int(high)
        network: IPv4Network | IPv6Network = ip_network(wanted.strip(), strict=False)
    except ValueError:
        hint = "expected an address, a network or a range of addresses"
        raise BadInput(f"invalid pattern {wanted[:100]!r}", where="ip", hint=hint) from None
    return lambda one: one.version == network.version and one in network


def address_of(text: str) -> Address | None:
    """The address that a text is, None where it is none."""
    try:
        return ip_address(text.strip())
    except ValueError:
        return None


def addresses_in(line: str) -> Iterator[Address]:
    """The addresses that stand in a line."""
    for found in _ADDRESS.finditer(line):
        one = address_of(found[0])
        if one is not None:
            yield one
