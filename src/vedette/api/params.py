"""Request parameters as Prometheus reads them: forms, times, durations, limits, selectors.

The wording of refusals is Prometheus', since clients show it to people and some match on it. Times are int64 Unix
milliseconds, durations milliseconds. Not here: what an endpoint does with them.
"""

from __future__ import annotations

import asyncio
import functools
import math
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import unquote_plus

import msgspec
import numpy as np
from starlette.requests import ClientDisconnect, Request

from vedette.api.endpoint import Run
from vedette.api.problems import TooLarge, Unsupported
from vedette.errors import BadInput
from vedette.model.durations import parse_duration
from vedette.model.matchers import Matcher
from vedette.model.times import iso_ns

T = TypeVar("T")

MIN_TIME = -(1 << 62)
"""The open start of a range: before every sample, and far enough from the ends of int64 to subtract from."""
MAX_TIME = 1 << 62
"""The open end of a range."""

MAX_FORM_BYTES = 10 << 20
FORM_TYPE = "application/x-www-form-urlencoded"
_JSON_TYPES = re.compile(r"(application|text)/([\w.-]+\+)?(x-)?(json|ndjson|jsonl|jsonlines)\Z", re.ASCII)
_YAML_TYPES = re.compile(r"(application|text)/([\w.-]+\+)?(x-)?(yaml|plain|octet-stream)\Z", re.ASCII)
_MAX_FIELDS = 10_000
_LARGE_BODY = 256 << 10
"""Bytes of a form from which on the loop has no time to read it."""
_LONG = 4_096
"""Characters of selectors from which on reading them is no matter of microseconds."""
_LONGEST_KEPT = 2000
_PART_BYTES = 1 << 16
_HEX = np.full(256, 255, dtype=np.uint8)
"""What a hexadecimal digit stands for, by its byte; 255 for what is none."""
for _digit in b"0123456789abcdefABCDEF":
    _HEX[_digit] = int(chr(_digit), 16)

_FLOAT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\Z", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,18}\Z", re.ASCII)
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:[.,](\d+))?(Z|[+-]\d\d:\d\d)\Z", re.ASCII)
# Prometheus' own names for the ends of time, which clients send back to it.
_ENDS_OF_TIME = {"-292273086-05-16T16:47:06Z": MIN_TIME, "292277025-08-18T07:12:54.999999999Z": MAX_TIME}
_TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))


class Form:
    """The parameters of one request: of a repeated name all values, those of the body before those of the URL."""

    __slots__ = ("_fields",)

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._fields: dict[str, list[str]] = {}
        for name, value in pairs:
            self._fields.setdefault(name, []).append(value)

    def text(self, name: str) -> str:
        """The first value, empty where there is none."""
        values = self._fields.get(name)
        return values[0] if values else ""

    def texts(self, name: str) -> list[str]:
        """All values, in order."""
        return self._fields.get(name, [])


async def form_of(request: Request) -> Form:
    """The parameters in the URL and, for a POST of a URL-encoded form, in the body.

    Raises `BadInput` for what is not a form, `TooLarge` for one over `MAX_FORM_BYTES`.
    """
    pairs: list[tuple[str, str]] = []
    if request.method == "POST" and media_type(request) == FORM_TYPE:
        body = await body_of(request, MAX_FORM_BYTES)
        pairs = _decoded(body) if len(body) < _LARGE_BODY else await asyncio.to_thread(_decoded, body)
    pairs += _decoded(request.scope.get("query_string", b""))
    return Form(pairs)


def fields_of(scope: Mapping[str, Any], headers: Mapping[bytes, bytes], body: bytes) -> dict[str, str] | None:
    """As `form_of`, of a request that came whole; None where a name is repeated, or a body is no such form. Raises `BadInput`."""
    pairs = _decoded(scope["query_string"])
    if scope["method"] == "POST":
        if not headers.get(b"content-type", b"").startswith(b"application/x-www-form-urlencoded"):
            return None
        pairs += _decoded(body)
    elif body:
        return None
    fields = dict(pairs)
    return fields if len(fields) == len(pairs) else None


def query_of(request: Request) -> Form:
    """The parameters in the URL alone. Raises `BadInput` for what is not URL-encoded UTF-8."""
    return Form(_decoded(request.scope.get("query_string", b"")))


async def stream_of(request: Request) -> AsyncIterator[bytes]:
    """The request's body as it comes. Raises `BadInput` where the client goes away before it is complete."""
    try:
        async for part in request.stream():
            yield part
    except ClientDisconnect:
        # There is nobody to answer, and nothing to look into.
        raise BadInput("the client went away before its body was complete") from None


async def body_of(request: Request, limit: int) -> bytes:
    """The request's body, at most `limit` bytes of which are ever held. Raises `TooLarge`, and as `stream_of`."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise TooLarge(limit)
    parts: list[bytes] = []
    size = 0
    async for part in stream_of(request):
        size += len(part)
        if size > limit:
            raise TooLarge(limit)
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def media_type(request: Request) -> str:
    """The media type that a request says its body has, in lower case and without parameters; empty where it says nothing."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def json_of(request: Request, limit: int, *, form: bool = True) -> bytes:
    """The body of a request that sends JSON, as `body_of`. Raises `Unsupported` where the request says that it sends something else.

    `form`: what calls itself a form is taken for JSON too, since that is what `curl -d` calls everything.
    """
    expect_json(request, form=form)
    _expect_plain(request)
    return await body_of(request, limit)


async def yaml_of(request: Request, limit: int) -> bytes:
    """The same of YAML or JSON."""
    if not _YAML_TYPES.match(media_type(request)):
        expect_json(request, expected="application/yaml or application/json")
    _expect_plain(request)
    return await body_of(request, limit)


def expect_json(request: Request, *, form: bool = True, expected: str = "application/json") -> None:
    """Raises `Unsupported` for a request that says that its body is not JSON; what says nothing is taken for JSON."""
    kind = media_type(request)
    if kind and not _JSON_TYPES.match(kind) and not (form and kind == FORM_TYPE):
        raise Unsupported(f"unsupported media type {_quoted(kind)}", hint=f"expected {expected}")


def _expect_plain(request: Request) -> None:
    coding = request.headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity"):
        raise Unsupported(f"unsupported content encoding {_quoted(coding)}", hint="expected none")


def decoded(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """A JSON body in the decoder's shape. Raises `BadInput` naming the field that is missing or wrong."""
    try:
        return decoder.decode(body)
    except UNREADABLE as error:
        raise unreadable(error) from None


UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for JSON that is none, that is of another shape, or that is nested more deeply than it can follow."""


def unreadable(error: Exception) -> BadInput:
    """One of `UNREADABLE` as what is wrong with a body, and where in it."""
    if isinstance(error, RecursionError):
        return BadInput("JSON is nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        return BadInput("not UTF-8 text")
    # msgspec names the place at the end of its message: "Expected `str`, got `int` - at `$.labels[...]`".
    problem, _, place = str(error).partition(" - at `$")
    where = place.rstrip("`").removeprefix(".").replace("[...]", "").replace("[", ".").replace("]", "").removeprefix(".")
    if problem.startswith("Object missing required field"):
        missing = problem.split("`")[1]
        return BadInput("field required", where=f"{where}.{missing}" if where else missing)
    return BadInput(problem, where=where)


def _decoded(data: bytes) -> list[tuple[str, str]]:
    if not data:
        return []
    if data.count(b"&") >= _MAX_FIELDS:
        raise BadInput(f"error parsing form values: more than {_MAX_FIELDS} fields")
    pairs = []
    try:
        for field in data.decode("ascii").split("&"):
            if field:
                name, _, value = field.partition("=")
                pairs.append((_unquoted(name), _unquoted(value)) if "%" in field or "+" in field else (name, value))
    except UnicodeDecodeError:
        raise BadInput("error parsing form values: not URL-encoded UTF-8") from None
    return pairs


def _unquoted(text: str) -> str:
    """A name or value without its URL encoding. Raises `UnicodeDecodeError`."""
    if "%" not in text and "+" not in text:
        return text
    return _unquoted_before(text) if len(text) <= _LONGEST_KEPT else _long_unquoted(text)


def _long_unquoted(text: str) -> str:
    """The same as `unquote_plus`, which takes a second for 5 MB. In parts that the processor's cache holds, too: a third of the time."""
    raw = text.replace("+", " ").encode("ascii")
    parts, begin = [], 0
    while begin < len(raw):
        end = begin + _PART_BYTES
        while b"%" in raw[end - 2 : end]:
            # No escape is cut: where nothing but signs of one follows, the rest is one part.
            end = end + 1 if end < begin + 2 * _PART_BYTES else len(raw) + 2
        parts.append(_unescaped(raw[begin:end]))
        begin = end
    return b"".join(parts).decode()


def _unescaped(data: bytes) -> bytes:
    raw = np.frombuffer(data, dtype=np.uint8)
    at = np.flatnonzero(raw[:-2] == ord("%"))
    high, low = _HEX[raw[at + 1]], _HEX[raw[at + 2]]
    escapes = (high | low) < 16
    at = at[escapes]
    out, kept = raw.copy(), np.ones(len(raw), dtype=np.bool_)
    out[at] = high[escapes] << 4 | low[escapes]
    kept[at + 1] = kept[at + 2] = False
    return out[kept].tobytes()


@functools.lru_cache(maxsize=256)
def _unquoted_before(text: str) -> str:
    # A dashboard asks the same expressions over and over, and to read one takes longer than to look it up.
    return unquote_plus(text, errors="strict")


def parameter(name: str, read: Callable[[], T]) -> T:
    """What `read` gives, its `BadInput` reworded to name the parameter, as Prometheus words it."""
    try:
        return read()
    except BadInput as error:
        raise BadInput(f'invalid parameter "{name}": {error}') from None


def asked(form: Form, name: str, read: Callable[[str], T], default: T) -> T:
    """What `read` makes of an optional parameter, as the service APIs name it: `BadInput` with `query.NAME` as its place."""
    text = form.text(name)
    try:
        return read(text) if text else default
    except BadInput as error:
        raise BadInput(error.problem, where=f"query.{name}", hint=error.hint) from None


def parse_time(text: str) -> int:
    """Milliseconds of a Unix time in seconds, of an RFC 3339 timestamp or of any other form of ISO 8601. Raises `BadInput`."""
    if _FLOAT.match(text):
        seconds = float(text)
        if math.isfinite(seconds) and abs(seconds) * 1000 < MAX_TIME:
            fraction, whole = math.modf(seconds)
            return int(whole) * 1000 + round(fraction * 1000)
    elif (found := _RFC3339.match(text)) is not None:
        date, time, fraction_text, zone = found.groups()
        try:
            whole_seconds = datetime.fromisoformat(f"{date}T{time}{'+00:00' if zone == 'Z' else zone}").timestamp()
        except ValueError:
            pass  # the 30th of February: told below, as anything else that is no time
        else:
            return int(whole_seconds) * 1000 + int(((fraction_text or "") + "000")[:3])
    elif text in _ENDS_OF_TIME:
        return _ENDS_OF_TIME[text]
    elif (ns := iso_ns(text)) is not None:
        return ns // 1_000_000
    raise BadInput(f"cannot parse {_quoted(text)} to a valid timestamp")


def time_of(form: Form, name: str, default: int) -> int:
    """An optional time parameter, in milliseconds."""
    text = form.text(name)
    if text == "":
        return default
    try:
        return parse_time(text)
    except BadInput as error:
        raise BadInput(f"invalid parameter \"{name}\": invalid time value for '{name}': {error}") from None


def parse_span(text: str) -> int:
    """Milliseconds (towards zero) of a number of seconds or of a Prometheus duration. Raises `BadInput`."""
    if _FLOAT.match(text):
        seconds = float(text)
        if not math.isfinite(seconds) or abs(seconds) >= 2**63 / 1e9:
            raise BadInput(f"cannot parse {_quoted(text)} to a valid duration. It overflows int64")
        return int(seconds * 1000)
    try:
        return parse_duration(text)
    except BadInput:
        raise BadInput(f"cannot parse {_quoted(text)} to a valid duration") from None


def integer(text: str) -> int:
    """A decimal whole number. Raises `BadInput`."""
    if not _INTEGER.match(text):
        raise BadInput(f"strconv.Atoi: parsing {_quoted(text)}: invalid syntax")
    return int(text)


def limit_of(form: Form) -> int:
    """The `limit` parameter: 0 where it is absent, which is no limit."""
    text = form.text("limit")
    if text == "":
        return 0
    value = parameter("limit", lambda: integer(text))
    if value < 0:
        raise BadInput('invalid parameter "limit": limit must be non-negative')
    return value


def count_of(form: Form, name: str, *, absent: int) -> int:
    """A number of entries, `absent` where none is given; negative ones, too, are for the caller to judge."""
    text = form.text(name)
    try:
        return integer(text) if text else absent
    except BadInput:
        raise BadInput(f"{name} must be a number") from None


def boolean_of(form: Form, name: str) -> bool:
    """An optional truth value as Go's ParseBool reads it, False where it is absent."""
    text = form.text(name)
    if text == "" or text in _FALSE:
        return False
    if text in _TRUE:
        return True
    raise BadInput(f'invalid parameter "{name}": error converting {name}: strconv.ParseBool: parsing {_quoted(text)}: invalid syntax')


def matcher_sets(form: Form, parse_selector: Callable[[str], Sequence[Matcher]], *, everything: bool = False) -> list[Sequence[Matcher]]:
    """The `match[]` selectors. Raises `BadInput` for one that does not parse or, unless `everything`, that any series would pass."""
    sets = [parse_selector(text) for text in form.texts("match[]")]
    for matchers in sets:
        if not everything and all(m.matches_empty for m in matchers):
            raise BadInput("match[] must contain at least one non-empty matcher")
    return sets


async def selected(
    form: Form, parse_selector: Callable[[str], Sequence[Matcher]], run: Run, *, everything: bool = False
) -> list[Sequence[Matcher]]:
    """As `matcher_sets`; long ones are read on a worker thread (`run`), since a large regular expression takes its time."""
    if sum(map(len, form.texts("match[]"))) < _LONG:
        return matcher_sets(form, parse_selector, everything=everything)
    return await run(functools.partial(matcher_sets, everything=everything), form, parse_selector)


def unescaped(name: str) -> str:
    """The label name that a `U__` value-encoded path segment stands for; any other name stands for itself.

    `_XX_` is the code point of that hexadecimal number, `__` one underscore. What is not properly escaped is taken literally.
    """
    if not name.startswith("U__"):
        return name
    out: list[str] = []
    rest, at = name[3:], 0
    while at < len(rest):
        if rest[at] != "_":
            out.append(rest[at])
            at += 1
        elif rest.startswith("__", at):
            out.append("_")
            at += 2
        else:
            end = rest.find("_", at + 1)
            digits = rest[at + 1 : end] if end > 0 else ""
            if not re.fullmatch(r"[0-9a-fA-F]{1,6}", digits):
                return name
            point = int(digits, 16)
            if point > 0x10FFFF or 0xD800 <= point <= 0xDFFF:
                return name
            out.append(chr(point))
            at = end + 1
    return "".join(out)


def chosen(form: Form, name: str) -> Callable[[str], bool]:
    """Whether a value is among those given for `name`; all are where none is given."""
    wanted = frozenset(form.texts(name))
    return (lambda value: value in wanted) if wanted else (lambda value: True)


def _quoted(text: str) -> str:
    shown = text if len(text) <= 200 else text[:200] + "…"
    return '"' + shown.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def rfc3339(seconds: float) -> str:
    """A Unix time as Go prints it in JSON: UTC, the fraction without trailing zeros; 0 is Go's zero time."""
    if seconds == 0:
        return "0001-01-01T00:00:00Z"
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")
    return text.removesuffix("+00:00").rstrip("0").rstrip(".") + "Z"
