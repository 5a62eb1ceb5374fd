"""Groups of metrics as jobs push them: families by name under a grouping key, checked as a Pushgateway checks them.

A histogram that comes in both forms is kept in both. Pure. Not here: where groups are kept and when they are written (`pushed.py`), HTTP
(`api/pushgateway.py`).
"""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from vedette.errors import BadInput
from vedette.ingest.accumulate import part
from vedette.model.histograms import Histogram, Layout
from vedette.model.labels import METRIC_NAME, Labels, is_legacy_label_name, quote
from vedette.model.samples import MetricMetadata, canonical
from vedette.wire import exposition, exposition_proto
from vedette.wire.exposition import family_of, format_value, parse_pairs

PUSHED, FAILED = "push_time_seconds", "push_failure_time_seconds"
_ABOUT = {
    PUSHED: "Last Unix time when changing this group in the Pushgateway succeeded.",
    FAILED: "Last Unix time when changing this group in the Pushgateway failed.",
}
_BASE64 = "@base64"


Value = float | Histogram
Row = tuple[Labels, Value]
"""A series, grouping labels included, and its value."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family of a group. `pushed_at` is in ms."""

    about: MetricMetadata
    rows: tuple[Row, ...]
    pushed_at: int


@dataclass(frozen=True, slots=True)
class Group:
    """What was pushed under one grouping key. Times are ms, 0 where there is none."""

    labels: Labels
    families: Mapping[str, Family] = field(default_factory=dict)
    pushed_at: int = 0
    failed_at: int = 0

    def rows(self) -> list[Row]:
        """All that is written of it: its series, and when pushes succeeded and failed."""
        found = [row for family in self.families.values() for row in family.rows]
        return found + [row for family in self.times() for row in family.rows]

    def times(self) -> list[Family]:
        """`push_time_seconds` and `push_failure_time_seconds` of the group."""
        found = []
        for name, at in ((FAILED, self.failed_at), (PUSHED, self.pushed_at)):
            about = MetricMetadata(name, "gauge", _ABOUT[name])
            found.append(Family(about, ((self.labels.with_({METRIC_NAME: name}), at / 1000),), at))
        return found

    def metadata(self) -> list[MetricMetadata]:
        """What its metrics are."""
        return [family.about for family in (*self.families.values(), *self.times())]

    def kept(self) -> str:
        """Its families as JSON, for `loaded`."""
        families = [
            [
                f.about.metric,
                f.about.type,
                f.about.help,
                f.about.unit,
                f.pushed_at,
                [[dict(labels), _kept(v)] for labels, v in f.rows],
            ]
            for f in self.families.values()
        ]
        return orjson.dumps(families).decode()


def loaded(labels: str, families: str, pushed_at: int, failed_at: int) -> Group:
    """A group as the records have it."""
    found = {
        name: Family(MetricMetadata(name, kind, about, unit), tuple((Labels.of(pairs), _value(value)) for pairs, value in rows), at)
        for name, kind, about, unit, at, rows in orjson.loads(families)
    }
    return Group(Labels.of(orjson.loads(labels)), found, pushed_at, failed_at)


def _kept(value: Value) -> str | dict[str, Any]:
    """A value as JSON holds it to the bit."""
    if not isinstance(value, Histogram):
        return format_value(value)
    layout = value.layout

    def packed(column: NDArray[Any]) -> str:
        return base64.b64encode(column.tobytes()).decode()

    return {
        "schema": layout.schema,
        "threshold": format_value(layout.threshold),
        "bounds": packed(np.array(layout.bounds, dtype=np.float64)),
        "positive": packed(layout.positive),
        "negative": packed(layout.negative),
        "cells": packed(value.cells),
        "hint": value.hint,
    }


def _value(kept: str | dict[str, Any]) -> Value:
    if isinstance(kept, str):
        return float(kept)

    def column(name: str, dtype: type) -> NDArray[Any]:
        return np.frombuffer(base64.b64decode(kept[name]), dtype=dtype)

    bounds = tuple(column("bounds", np.float64).tolist())
    layout = Layout(kept["schema"], float(kept["threshold"]), bounds, column("positive", np.int32), column("negative", np.int32))
    return Histogram(layout, column("cells", np.float64), kept["hint"])


def grouping(path: str, *, encoded: bool) -> Labels:
    """The grouping key of a path behind `/metrics/job/` (`encoded`: `/metrics/job@base64/`): `name/label/value/…`. Raises `BadInput`.

    The words of its refusals are a Pushgateway's.
    """
    job, _, rest = path.partition("/")
    if encoded:
        job = _decoded(job, f"invalid base64 encoding in job name {quote(job)}")
    if not job:
        raise BadInput("job name is required")
    found = {"job": job}
    parts = rest.split("/") if rest else []
    if len(parts) % 2:
        raise BadInput(f"odd number of components in label string {quote('/' + rest)}")
    for name, value in zip(parts[::2], parts[1::2], strict=True):
        plain = name.removesuffix(_BASE64)
        if not is_legacy_label_name(plain) or plain.startswith("__"):
            raise BadInput(f"improper label name {quote(plain)}")
        if plain == "job":
            continue  # the job is the one that the path begins with
        if plain != name:
            value = _decoded(value, f"invalid base64 encoding for label {plain}={quote(value)}")
        found[plain] = value
    return Labels.of(found)


def _decoded(text: str, problem: str) -> str:
    """Base64 in the alphabet for URLs, its padding optional; `=` alone is the empty text."""
    bare = text.rstrip("=")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), altchars=b"-_", validate=True).decode("utf-8")
    except (binascii.Error, ValueError) as error:
        raise BadInput(f"{problem}: {error}") from None


def parsed(body: bytes, kind: str, group: Labels, now_ms: int) -> dict[str, Family]:
    """The families of a body of a media type (`protobuf`, `openmetrics`, text otherwise), grouping labels laid over their own.

    Raises `BadInput` for what cannot be read, `Inconsistent` for what must not be pushed.
    """
    space = canonical()
    if kind == "protobuf":
        found = exposition_proto.parse(body, space, now_ms, wanted=exposition_proto.Wanted(native=True, classic=True))
    else:
        try:
            found = exposition.parse(body, space, now_ms, openmetrics=kind == "openmetrics")
        except BadInput as error:
            raise BadInput(f"text format parsing error in {error.where}: {error.problem}", hint=error.hint) from None
    if found.explicit.any():
        raise Inconsistent("pushed metrics must not have timestamps")
    known = {about.metric: about for about in found.batch.metadata}
    data = found.batch.buffer.tobytes()
    rows: dict[str, list[Row]] = {}
    values: list[Value] = np.asarray(found.batch.values).tolist()
    native = found.batch.histograms
    for number, row in enumerate(() if native is None else native.at.tolist()):
        assert native is not None, "or there were none of it"
        one = native.sample(number)
        # Its own cells, since a group stays long after the others of the body are gone.
        values[row] = Histogram(one.layout, one.cells.copy(), one.hint)
    seen: set[Labels] = set()
    for lo, hi, value in zip(found.batch.key_start.tolist(), found.batch.key_end.tolist(), values, strict=True):
        labels = Labels.of({**dict(parse_pairs(data[lo:hi])), **dict(group)})
        if labels in seen:
            raise Inconsistent(f"collected metric {_shown(labels)} was collected before with the same name and label values")
        seen.add(labels)
        rows.setdefault(family_of(labels.metric, known), []).append((labels, value))
    # When a push came is for the server to say.
    return {
        name: Family(known.get(name, MetricMetadata(name)), tuple(found), now_ms)
        for name, found in rows.items()
        if name not in (PUSHED, FAILED)
    }


class Inconsistent(BadInput):
    """Metrics that can be read and must not be pushed: the group notes that a push failed."""

    def __str__(self) -> str:
        return f"pushed metrics are invalid or inconsistent with existing metrics: {self.problem}"


def _shown(labels: Labels) -> str:
    pairs = ", ".join(f"{name}={quote(value)}" for name, value in labels if name != METRIC_NAME)
    return f"{quote(labels.metric)} {{{pairs}}}"


@dataclass(slots=True)
class Groups:
    """One tenant's groups, and what they have together: whose each series is, and of which types the families of a name are."""

    groups: dict[Labels, Group] = field(default_factory=dict)
    owners: dict[Labels, Labels] = field(default_factory=dict)
    types: dict[str, Counter[str]] = field(default_factory=dict)

    def check(self, group: Group) -> None:
        """Raises `Inconsistent` where a group, in the place of what it was, contradicts the others."""
        before = self.groups.get(group.labels)
        for name, family in group.families.items():
            others = Counter(self.types.get(name))
            if before is not None and name in before.families:
                others[before.families[name].about.type] -= 1
            other = next((kind for kind, count in others.items() if count > 0 and kind != family.about.type), None)
            if other is not None and family.rows:
                kind = "UNTYPED" if other == "unknown" else other.upper()
                raise Inconsistent(f"collected metric {_shown(family.rows[0][0])} is not a {kind}")
            for labels, _ in family.rows:
                if self.owners.get(labels, group.labels) != group.labels:
                    raise Inconsistent(f"collected metric {_shown(labels)} was collected before with the same name and label values")

    def put(self, group: Group) -> list[Labels]:
        """Take a group in, in the place of what it was; answers the series that it had and has no more."""
        gone = self.drop(group.labels)
        self.groups[group.labels] = group
        for labels, _ in group.rows():
            self.owners[labels] = group.labels
        for name, family in group.families.items():
            self.types.setdefault(name, Counter())[family.about.type] += 1
        return [labels for labels in gone if labels not in self.owners]

    def drop(self, key: Labels) -> list[Labels]:
        """Forget a group; answers the series that it had."""
        group = self.groups.pop(key, None)
        if group is None:
            return []
        found = [labels for labels, _ in group.rows()]
        for labels in found:
            self.owners.pop(labels, None)
        for name, family in group.families.items():
            self.types[name][family.about.type] -= 1
            if not +self.types[name]:
                del self.types[name]
        return found


def merged(before: Group | None, families: Mapping[str, Family], *, replace: bool) -> dict[str, Family]:
    """A group's families after a push: all of them new (`replace`), or those of the same names."""
    kept = {} if replace or before is None else dict(before.families)
    return {**kept, **families}


def classic(family: Family) -> list[tuple[Labels, float]]:
    """A family's rows in numbers: a histogram that is a native one alone has its sum, its count and the bucket of all."""
    found: list[tuple[Labels, float]] = []
    there = {labels for labels, _ in family.rows}
    for labels, value in family.rows:
        if not isinstance(value, Histogram):
            found.append((labels, value))
        elif part(labels, "_count") not in there:
            found.append((part(labels, "_bucket", le="+Inf"), value.count))
            found += [(part(labels, "_sum"), value.sum), (part(labels, "_count"), value.count)]
    return found


def told(groups: Iterable[Group]) -> tuple[Sequence[MetricMetadata], list[Labels], list[float]]:
    """(metadata, series, values) of groups, families of one name together: an exposition's order."""
    metadata: dict[str, MetricMetadata] = {}
    rows: dict[str, list[tuple[Labels, float]]] = {}
    for group in groups:
        for family in (*group.families.values(), *group.times()):
            metadata.setdefault(family.about.metric, family.about)
            rows.setdefault(family.about.metric, []).extend(classic(family))
    found: list[Any] = [row for name in sorted(rows) for row in rows[name]]
    return list(metadata.values()), [labels for labels, _ in found], [value for _, value in found]
