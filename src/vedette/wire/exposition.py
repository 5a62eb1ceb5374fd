"""Exposition text, both ways: Prometheus text 0.0.4 in and out, OpenMetrics 1.0 text in.

`parse` turns a scrape's body into a `SampleBatch` whose keys are the raw series prefixes (`name{a="b"}`), which
`parse_series` turns into labels the first time they are seen. As lenient as Prometheus' own scraper; `strict`
additionally holds OpenMetrics to its specification. Not here: HTTP, relabelling, the time of the scrape.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vedette.errors import BadInput
from vedette.kernels.exposition import ERRORS, EXPLICIT, FULL, HELP, SLOW_TIME, SLOW_VALUE, TYPE, scan_exposition
from vedette.kernels.floats import POWERS
from vedette.kernels.hashing import PROCESS_KEY
from vedette.model.exemplars import Exemplar
from vedette.model.labels import METRIC_NAME, Labels, is_legacy_metric_name, quote
from vedette.model.labels import is_legacy_label_name as plain_label
from vedette.model.samples import KeySpace, MetricMetadata, SampleBatch
from vedette.wire.escaping import Spell, as_it_is

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The media type of what `render` writes."""

_TYPES = frozenset(("counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset", "unknown", "untyped"))


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a text in their order: their first hashes uint64[n] and lengths int32[n]; and how many metadata lines it has."""

    hashes: NDArray[np.uint64]
    lengths: NDArray[np.int32]
    comments: int


NO_KEYS = Keys(np.empty(0, np.uint64), np.empty(0, np.int32), 0)
"""Of no text: what a first one is read with."""


@dataclass(slots=True)
class Exposition:
    """A parsed body. `explicit` bool[n] says which rows carry their own timestamp; `metadata_hash` names the metadata lines.

    `keys` speed up the next parsing of a text of the same source, with the same key space.
    """

    batch: SampleBatch
    explicit: NDArray[np.bool_]
    metadata_hash: int
    keys: Keys = NO_KEYS


def parse(
    body: bytes,
    keyspace: KeySpace,
    now_ms: int,
    *,
    openmetrics: bool = False,
    strict: bool = False,
    honor_timestamps: bool = True,
    metadata_known: int | None = None,
    keys_known: Keys = NO_KEYS,
) -> Exposition:
    """The samples of an exposition, one row a line, in the order of the text.

    Lines without a timestamp (all, without `honor_timestamps`) get `now_ms`. Metadata is left out of the batch where its
    hash equals `metadata_known`, an earlier answer's: it seldom changes. `keys_known` are an earlier answer's `keys`, of the
    same key space: what they have is not read letter by letter again. Raises `BadInput` with line and column (of
    bytes, both from 1) for the first line that breaks the syntax.
    """
    n = len(body)
    buffer = np.empty(n + 1, dtype=np.uint8)
    buffer[:n] = np.frombuffer(body, dtype=np.uint8)
    buffer[n] = 10
    known = len(keys_known.hashes)
    # About as many lines as the last time: to count them takes longer than to be wrong now and then.
    room = (known + 64, keys_known.comments + 64) if known else _counted(body)
    found = _scanned(buffer, keyspace, now_ms, room, keys_known, openmetrics=openmetrics)
    if found.error == FULL:
        found = _scanned(buffer, keyspace, now_ms, _counted(body), keys_known, openmetrics=openmetrics)
    if found.error:
        raise _bad(body, found.error_at, ERRORS[found.error])
    spans, flags, timestamps, bits = found.spans, found.flags, found.timestamps, found.bits
    if n and int(buffer.max()) >= 0x80:
        _check_utf8(body)
    if strict and openmetrics:
        check_openmetrics(body)
    _slow_rows(body, spans, flags, timestamps, bits)
    explicit = (flags & EXPLICIT).astype(np.bool_)
    if not honor_timestamps and explicit.any():
        timestamps[:] = now_ms
        explicit[:] = False
    metadata = () if found.metadata_hash == metadata_known else _metadata(body, found.meta.tolist())
    batch = SampleBatch(
        keyspace=keyspace,
        buffer=buffer,
        key_start=np.ascontiguousarray(spans[:, 0]),
        key_end=np.ascontiguousarray(spans[:, 1]),
        hashes=found.hashes,
        offsets=np.arange(len(spans) + 1, dtype=np.int64),
        timestamps=timestamps,
        values=bits.view(np.float64),
        metadata=metadata,
        exemplars=list(_exemplars(body, spans, timestamps)) if openmetrics and b"# {" in body else (),
    )
    keys = Keys(found.hashes[:, 0].copy(), (spans[:, 1] - spans[:, 0]).astype(np.int32), len(found.meta))
    return Exposition(batch, explicit, found.metadata_hash, keys)


@dataclass(frozen=True, slots=True)
class _Scanned:
    """What `scan_exposition` wrote, cut to what it found."""

    spans: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    timestamps: NDArray[np.int64]
    bits: NDArray[np.uint64]
    flags: NDArray[np.uint8]
    meta: NDArray[np.int64]
    error: int
    error_at: int
    metadata_hash: int


def _counted(body: bytes) -> tuple[int, int]:
    """How many rows, and how many metadata lines, there are at the most."""
    lines = body.count(b"\n") + 1
    return lines, min(lines, body.count(b"#"))


def _scanned(
    buffer: NDArray[np.uint8], keyspace: KeySpace, now_ms: int, room: tuple[int, int], keys: Keys, *, openmetrics: bool
) -> _Scanned:
    spans = np.zeros((room[0], 4), dtype=np.int64)
    hashes = np.empty((room[0], 2), dtype=np.uint64)
    timestamps = np.full(room[0], now_ms, dtype=np.int64)
    bits = np.empty(room[0], dtype=np.uint64)
    flags = np.empty(room[0], dtype=np.uint8)
    meta = np.empty((room[1], 5), dtype=np.int64)
    result = np.zeros(4, dtype=np.int64)
    word = np.zeros(1, dtype=np.float64)
    rows = scan_exposition(
        buffer,
        len(buffer) - 1,
        openmetrics,
        np.uint64(keyspace.id),
        PROCESS_KEY,
        POWERS,
        (word, word.view(np.uint64)),
        spans,
        hashes,
        timestamps,
        bits,
        flags,
        meta,
        keys.hashes,
        keys.lengths,
        result,
    )
    error, at, metas, metadata_hash = result.tolist()
    return _Scanned(spans[:rows], hashes[:rows], timestamps[:rows], bits[:rows], flags[:rows], meta[:metas], error, at, metadata_hash)


def _exemplars(body: bytes, spans: NDArray[np.int64], timestamps: NDArray[np.int64]) -> Iterator[Exemplar]:
    """The exemplars behind samples: `# {labels} value [seconds]`. One Python step an exemplar."""
    at = body.find(b"# {")
    while at >= 0:
        row = int(np.searchsorted(spans[:, 1], at)) - 1
        end = body.find(b"\n", at)
        line = body[at : end if end >= 0 else len(body)]
        if row >= 0 and b"\n" not in body[spans[row, 1] : at] and body[at - 1 : at].isspace():
            stop = _braced(line)
            try:
                value, *time = (float(word) for word in line[stop:].split())
            except ValueError:
                raise _bad(body, at, "bad exemplar") from None
            pairs = list(_tokens(line[3:stop].decode("utf-8")))
            stamp = int(time[0] * 1000) if time and abs(time[0]) < 1e15 else int(timestamps[row])
            yield Exemplar(row, Labels.from_pairs(pairs), value, stamp)
            at += len(line)
        at = body.find(b"# {", at + 1)


def _braced(line: bytes) -> int:
    """Where the braces that open `line` (`# {...}`) are closed, one further; quoted braces close nothing."""
    at, quoted = 3, False
    while quoted or line[at : at + 1] != b"}":
        if quoted and line[at : at + 1] == b"\\":
            at += 1
        elif line[at : at + 1] == b'"':
            quoted = not quoted
        at += 1
    return at + 1


def _bad(body: bytes, at: int, problem: str, hint: str = "") -> BadInput:
    start = body.rfind(b"\n", 0, at) + 1
    line = body.count(b"\n", 0, at) + 1
    return BadInput(problem, where=f"line {line}, column {at - start + 1}", hint=hint)


def _check_utf8(body: bytes) -> None:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _bad(body, error.start, "not UTF-8 text") from None


def _slow_rows(
    body: bytes,
    spans: NDArray[np.int64],
    flags: NDArray[np.uint8],
    timestamps: NDArray[np.int64],
    bits: NDArray[np.uint64],
) -> None:
    """Read by Python what the kernel passed on: numbers of more than 19 digits, subnormals, exact ties, overflows."""
    values = bits.view(np.float64)
    for row in np.flatnonzero(flags & (SLOW_VALUE | SLOW_TIME)).tolist():
        flag = int(flags[row])
        if flag & SLOW_VALUE:
            values[row] = _float(body, int(spans[row, 2]))
        if flag & SLOW_TIME:
            timestamps[row] = int(min(max(_float(body, int(spans[row, 3])) * 1000.0, -9.0e18), 9.0e18))


def _float(body: bytes, at: int) -> float:
    text = body[at : at + 4096].split(b"\n", 1)[0].split()[0]
    value = float(text)
    if math.isinf(value):
        raise _bad(body, at, "value out of range", "float64 ends at 1.8e308; write +Inf or -Inf for infinity")
    return value


def _metadata(body: bytes, spans: Sequence[Sequence[int]]) -> list[MetricMetadata]:
    """HELP, TYPE and UNIT lines merged by metric; of a repeated one the last counts."""
    found: dict[str, list[str]] = {}
    for kind, name_start, name_end, text_start, text_end in spans:
        name = body[name_start:name_end].decode("utf-8")
        if name.startswith('"'):
            name = unescape(name[1:-1])
        text = body[text_start:text_end].decode("utf-8")
        entry = found.setdefault(name, ["unknown", "", ""])
        if kind == HELP:
            entry[1] = unescape(text)
        elif kind == TYPE:
            text = text.strip()
            if text not in _TYPES:
                raise _bad(body, text_start, f"unknown metric type {text!r}", "expected one of " + ", ".join(sorted(_TYPES)))
            entry[0] = "unknown" if text == "untyped" else text
        else:
            entry[2] = text.strip()
    return [MetricMetadata(metric, *entry) for metric, entry in found.items()]


def unescape(text: str) -> str:
    """Undo the escapes of label values and help texts: backslash, quote and line feed; any other stays as it is."""
    if "\\" not in text:
        return text
    parts = text.split("\\\\")
    return "\\".join(p.replace('\\"', '"').replace("\\n", "\n") for p in parts)


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """The (name, value) pairs of `{a="b", "c d"="e", "metric"}` after its opening brace; the metric's name is ""."""
    i, n = 0, len(text)
    while i < n:
        if text[i] in " \t,":
            i += 1
            continue
        if text[i] == "}":
            return
        if text[i] == '"':
            stop = _closing(text, i)
            name, quoted = unescape(text[i + 1 : stop]), True
            i = stop + 1
        else:
            stop = i
            while text[stop] not in "= \t":
                stop += 1
            name, quoted = text[i:stop], False
            i = stop
        while text[i] in " \t":
            i += 1
        if quoted and text[i] != "=":
            yield "", name
            continue
        i = text.index('"', i)
        stop = _closing(text, i)
        yield name, unescape(text[i + 1 : stop])
        i = stop + 1


def _closing(text: str, at: int) -> int:
    at += 1
    while text[at] != '"':
        at += 2 if text[at] == "\\" else 1
    return at


def parse_pairs(key: bytes) -> list[tuple[str, str]]:
    """The label pairs of a key that `parse` has found well-formed, the metric's name first, empty values included.

    Raises `BadInput` for a name that occurs twice, an empty name, or a series without a metric name.
    """
    text = key.decode("utf-8")
    name, brace, rest = text.partition("{") if not text.startswith("{") else ("", "{", text[1:])
    pairs = [(METRIC_NAME, name.rstrip(" \t"))] if name else []
    if brace:
        for label, value in _tokens(rest):
            if not label and pairs and pairs[0][0] == METRIC_NAME:
                raise BadInput("empty label name", where=f"series {text}")
            pairs.append((label or METRIC_NAME, value))
    names = {n for n, _ in pairs}
    if len(names) < len(pairs):
        twice = next(n for i, (n, _) in enumerate(pairs) if any(n == m for m, _ in pairs[:i]))
        raise BadInput(f"label name {twice!r} given twice", where=f"series {text}")
    if not any(n == METRIC_NAME and v for n, v in pairs):
        raise BadInput("no metric name", where=f"series {text}")
    return pairs


def parse_series(key: bytes) -> Labels:
    """The labels that a key means; errors as `parse_pairs`."""
    return Labels.from_pairs(parse_pairs(key))


def exposition_keyspace(tenant: str) -> KeySpace:
    """A key space whose keys mean what they say, for expositions that are stored as they are."""
    return KeySpace(tenant, parse_series)


def check_openmetrics(body: bytes) -> None:
    """Hold a body to the OpenMetrics specification: suffixes, types, order, buckets. Raises `BadInput`; slow."""
    # Imported here: no server path is strict, and the parser costs 10 ms to load.
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    try:
        for _ in text_string_to_metric_families(body.decode("utf-8")):  # type: ignore[no-untyped-call]  # it ships no types here
            pass
    except (ValueError, KeyError, IndexError, TypeError) as error:
        # Its parser speaks ValueError by contract, and a few malformed lines make it trip over its own indices.
        raise BadInput(f"not strict OpenMetrics: {error}", hint="see the OpenMetrics specification") from None


def render(
    series: Sequence[Labels],
    values: Sequence[float] | NDArray[np.float64],
    timestamps: Sequence[int] | NDArray[np.int64] | None = None,
    *,
    metadata: Sequence[MetricMetadata] = (),
    spell: Spell = as_it_is,
) -> bytes:
    """Text 0.0.4 of one sample a series: families in the order of first appearance, each behind its HELP and TYPE.

    `timestamps` (ms) are written where given, names as `spell` gives them. Series without a metric name are an error of the caller.
    """
    known = {m.metric: m for m in metadata}
    families: dict[str, list[str]] = {}
    stamps = [""] * len(series) if timestamps is None else [f" {int(t)}" for t in timestamps]
    for labels, value, stamp in zip(series, values, stamps, strict=True):
        metric = labels.metric
        assert metric, "a series without a metric name cannot be exposed"
        families.setdefault(family_of(metric, known), []).append(f"{format_series(labels, spell)} {format_value(float(value))}{stamp}")
    return "".join(header(family, known, spell) + "\n".join(lines) + "\n" for family, lines in families.items()).encode()


OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_HEADER = re.compile(rb'^(?:# HELP ("(?:[^"\\]|\\.)*"|\S+) (.*)\n)?# TYPE ("(?:[^"\\]|\\.)*"|\S+) (\w+)$', re.MULTILINE)


def as_openmetrics(text: bytes) -> bytes:
    """OpenMetrics 1.0 of what `render` (or `render_table`) wrote without timestamps.

    A counter's family goes without `_total` there. One that has no such name, or whose family would then be another's, is `unknown`.
    """
    families = {found[3] for found in _HEADER.finditer(text)}

    def told(found: re.Match[bytes]) -> bytes:
        name, kind = found[3], found[4].replace(b"untyped", b"unknown")
        if kind == b"counter":
            quoted = b'"' if name.endswith(b'"') else b""
            short = name.removesuffix(b"_total" + quoted) + quoted
            name, kind = (name, b"unknown") if short in families else (short, kind)
        about = b"" if found[1] is None else b"# HELP " + name + b" " + found[2].replace(b'"', b'\\"') + b"\n"
        return about + b"# TYPE " + name + b" " + kind

    return _HEADER.sub(told, text) + b"# EOF\n"


def header(family: str, known: dict[str, MetricMetadata], spell: Spell = as_it_is) -> str:
    """The HELP and TYPE lines of a family, empty where nothing is known of it."""
    about = known.get(family)
    if about is None:
        return ""
    spelt = spell(family)
    name = spelt if is_legacy_metric_name(spelt) else quote(spelt)
    told = f"# HELP {name} " + about.help.replace("\\", "\\\\").replace("\n", "\\n") + "\n" if about.help else ""
    return f"{told}# TYPE {name} {_TEXT_TYPES.get(about.type, 'untyped')}\n"


_TEXT_TYPES = {"counter": "counter", "gauge": "gauge", "histogram": "histogram", "summary": "summary", "info": "gauge"}


def family_of(metric: str, known: dict[str, MetricMetadata]) -> str:
    """The family that a sample belongs to: its own name, or that of its histogram or summary."""
    for suffix in ("_bucket", "_sum", "_count"):
        base = metric.removesuffix(suffix)
        if base != metric and metric not in known and base in known and known[base].type in ("histogram", "summary"):
            return base
    return metric


def format_series(labels: Labels, spell: Spell = as_it_is) -> str:
    """`name{a="b"}` as the text format writes it (no blanks; names that need it are quoted, the metric's first)."""
    metric = spell(labels.metric)
    head = metric if is_legacy_metric_name(metric) else ""
    parts = [] if head else [quote(metric)]
    parts += [f"{label_text(spell(n))}={quote(v)}" for n, v in labels if n != METRIC_NAME]
    return f"{head}{{{','.join(parts)}}}" if parts else head


def label_text(name: str) -> str:
    """A label's name as the text format writes it, quoted where it needs that."""
    return name if plain_label(name) else quote(name)


def format_value(value: float) -> str:
    """A value as the text format writes it: `+Inf`, `-Inf`, `NaN`, whole numbers without a fraction."""
    if math.isfinite(value):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 and (value or math.copysign(1, value) > 0) else repr(value)
    return "NaN" if value != value else "+Inf" if value > 0 else "-Inf"
