"""Alertmanager's notification templates: its data, functions and default templates, and those that `templates:` names.

Every text of a receiver is a Go template over one notice. HTML texts are escaped. Not here: the language (`gotemplate`).
"""

from __future__ import annotations

import glob
import json
import math
import re
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from vedette.configfile import compose, plain
from vedette.errors import BadInput, Undeliverable
from vedette.gotemplate.evaluate import Limits, render
from vedette.gotemplate.functions import Function
from vedette.gotemplate.html import escaped
from vedette.gotemplate.parser import MAX_SOURCE, Definition, Template, parse
from vedette.gotemplate.shared import TEXT, humanize_duration
from vedette.gotemplate.times import Moment, Span, moment_of, zone_of
from vedette.gotemplate.values import Map, SafeText, Slice, Struct, bounded, type_name
from vedette.model.alerts import ALERT_NAME, Alert
from vedette.model.labels import Labels
from vedette.notify.notice import Notice

LIMITS = Limits(steps=2_000_000, output=4 << 20)
"""More than rules have: a group of ten thousand alerts must still be told of."""


_JSON_NAMES = {
    **{name: name[0].lower() + name[1:] for name in ("Receiver", "Status", "Alerts", "GroupLabels", "CommonLabels", "CommonAnnotations")},
    **{name: name[0].lower() + name[1:] for name in ("Labels", "Annotations", "StartsAt", "EndsAt", "Fingerprint")},
    "ExternalURL": "externalURL",
    "GeneratorURL": "generatorURL",
}
"""What fields are called in JSON: all of `Data` and `Alert`, and none of other structures."""
_IN_SCRIPTS = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}
_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")
_WORD = re.compile(r"\w+(?:['’.·]\w+)*")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"wrong type for value; expected string; got {type_name(value)}")
    return value


def _join(separator: Any, items: Any) -> str:
    if not isinstance(items, list | tuple):
        raise ValueError(f"wrong type for value; expected []string; got {type_name(items)}")
    return bounded((_text(i) for i in items), _text(separator))


def _plain(value: Any) -> Any:
    if isinstance(value, Moment):
        return "0001-01-01T00:00:00Z" if value.at is None else value.methods["Format"]("2006-01-02T15:04:05.999999999Z07:00")
    if isinstance(value, Span):
        return round(value.seconds * 1e9)
    if isinstance(value, Struct):
        return {_JSON_NAMES.get(name, name): _plain(v) for name, v in value.fields.items() if name != "GroupKey"}
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in sorted(value.items())}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def _json(value: Any) -> str:
    """As Go's encoder writes it, which lets no text end a script."""
    return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":")).translate(_IN_SCRIPTS)


def _title(text: Any) -> str:
    """Each word with its first letter in upper case and the others in lower case."""
    return _WORD.sub(lambda m: m.group()[0].upper() + m.group()[1:].lower(), _text(text))


def _human(value: Any) -> str:
    return humanize_duration(value.seconds if isinstance(value, Span) else value)


def _dict(*pairs: Any) -> dict[str, Any]:
    if len(pairs) % 2:
        raise ValueError("dict wants names and values in turn")
    return {_text(name): value for name, value in zip(pairs[::2], pairs[1::2], strict=True)}


_FUNCTIONS: dict[str, Function] = {
    **TEXT,
    "title": _title,
    "trimSpace": lambda text: _text(text).strip(),
    "join": _join,
    "safeUrl": lambda text: SafeText(_text(text)),
    "urlUnescape": lambda text: urllib.parse.unquote_plus(_text(text)),
    "stringSlice": lambda *texts: [_text(t) for t in texts],
    "list": lambda *items: list(items),
    "append": lambda items, *more: [*items, *more] if isinstance(items, list | tuple) else _join("", items),
    "dict": _dict,
    "date": lambda layout, moment: moment_of(moment).methods["Format"](layout),
    "tz": lambda name, moment: moment_of(moment).within(zone_of(name)),
    "humanizeDuration": _human,
    "toJson": _json,
}
_NAMES = frozenset((*_FUNCTIONS, "since", "routeLabels"))


def _pairs(labels: Mapping[str, str]) -> Slice:
    ordered = sorted(labels.items(), key=lambda p: (p[0] != ALERT_NAME, p[0]))
    return Slice.of(
        [Struct("template.Pair", {"Name": n, "Value": v}) for n, v in ordered],
        Names=lambda: [n for n, _ in ordered],
        Values=lambda: [v for _, v in ordered],
        String=lambda: ", ".join(f"{n}={v}" for n, v in ordered),
    )


def kv(labels: Mapping[str, str]) -> Map:
    """A label set as templates see it, with Alertmanager's methods."""

    def remove(names: Any) -> Map:
        if not isinstance(names, list | tuple):
            raise ValueError(f"wrong type for value; expected []string; got {type_name(names)}")
        return kv({n: v for n, v in labels.items() if n not in names})

    return Map(
        labels,
        methods={
            "SortedPairs": lambda: _pairs(labels),
            "Names": lambda: _pairs(labels).methods["Names"](),
            "Values": lambda: _pairs(labels).methods["Values"](),
            "String": lambda: _pairs(labels).methods["String"](),
            "Remove": remove,
        },
    )


def _alert(alert: Alert, now: int) -> Struct:
    status = alert.status(now)
    return Struct(
        "template.Alert",
        {
            "Status": status,
            "Labels": kv(dict(alert.labels)),
            "Annotations": kv(dict(alert.annotations)),
            "StartsAt": Moment(alert.starts_at),
            "EndsAt": Moment(alert.ends_at if status == "resolved" else None),
            "GeneratorURL": alert.generator_url,
            "Fingerprint": alert.fingerprint,
        },
    )


def quoted(receiver: str) -> str:
    """A receiver's name as Alertmanager gives it in templates and messages: as a regular expression that matches it."""
    return _SPECIAL.sub(r"\\\g<0>", receiver)


def data_of(notice: Notice) -> Struct:
    """What templates see of a notice: Alertmanager's `Data`."""
    alerts = [_alert(a, notice.now) for a in notice.alerts]

    def of(labels: Labels) -> Map:
        return kv(dict(labels))

    def with_status(status: str) -> list[Struct]:
        return [a for a in alerts if a.fields["Status"] == status]

    return Struct(
        "*template.Data",
        {
            "Receiver": quoted(notice.receiver),
            "Status": notice.status,
            "Alerts": Slice.of(alerts, Firing=lambda: with_status("firing"), Resolved=lambda: with_status("resolved")),
            "GroupLabels": of(notice.group_labels),
            "CommonLabels": of(notice.common_labels()),
            "CommonAnnotations": of(notice.common_annotations()),
            "ExternalURL": notice.external_url,
            "GroupKey": notice.group_key,
        },
    )


@dataclass(frozen=True, slots=True)
class Templates:
    """The templates that receivers' texts may call."""

    definitions: Mapping[str, Definition]
    _parsed: dict[str, Template] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def load(cls, patterns: Sequence[str] = ()) -> Templates:
        """The default templates and, over them, those of all files that the patterns match. Raises `BadInput` with the position."""
        source = files("vedette.notify").joinpath("default.tmpl").read_text("utf-8")
        found: Mapping[str, Definition] = parse(source, name="default.tmpl", functions=_NAMES).definitions
        for pattern in patterns:
            for path in sorted(glob.glob(pattern)):  # noqa: PTH207 - a pattern may be absolute, which Path.glob refuses
                found = _read(Path(path), found)
        return cls(found)

    def prepared(self, text: str) -> Template:
        """A receiver's text, parsed. Raises `BadInput`."""
        if text not in self._parsed:
            self._parsed[text] = parse(text, name="text", functions=_NAMES, definitions=self.definitions)
        return self._parsed[text]

    def over(self, notice: Notice) -> Words:
        """What renders texts over one notice."""
        return Words(self, notice)


def _read(path: Path, known: Mapping[str, Definition]) -> Mapping[str, Definition]:
    try:
        with path.open("rb") as file:
            source = file.read(4 * MAX_SOURCE + 1).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"template cannot be read: {error}", where=str(path)) from None
    whole = parse(source, name=path.name, functions=_NAMES, definitions=known)
    # As in Go, a file is a template too, by its base name.
    return {**whole.definitions, path.name: whole.main}


def _copied(value: Any, text: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {text(name): _copied(one, text) for name, one in value.items()}
    if isinstance(value, list):
        return [_copied(one, text) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return _typed(text(value)) if isinstance(value, str) else value


def _typed(text: str) -> Any:
    try:
        node = compose(text)
    except BadInput:
        return text
    if node is None:
        return None
    return text if isinstance(value := plain(node), str) else _copied(value, str)


class Words:
    """Renders texts over one notice. Raises `Undeliverable` (reason `template`) where a template fails: the notice cannot be told so."""

    def __init__(self, templates: Templates, notice: Notice) -> None:
        self._templates, self._notice = templates, notice
        self._data: Struct | None = None
        self._asking: list[str] = []

    def route_labels(self) -> dict[str, str]:
        """The labels of the route, each rendered."""
        return {name: self._route_label(name) for name, _ in self._notice.route_labels}

    def _route_label(self, name: Any) -> str:
        source = dict(self._notice.route_labels).get(_text(name))
        if source is None:
            return ""
        if name in self._asking:
            raise ValueError(f"the route's label {name} asks for itself: {' asks '.join((*self._asking, name))}")
        self._asking.append(name)
        try:
            return self.text(source)
        finally:
            self._asking.pop()

    def text(self, source: str) -> str:
        """A plain text."""
        return self._render(source, html=False)

    def html(self, source: str) -> str:
        """A text that is HTML, values escaped."""
        return self._render(source, html=True)

    def all(self, sources: Mapping[str, str]) -> dict[str, str]:
        """A text for each name."""
        return {name: self.text(source) for name, source in sources.items()}

    def values(self, value: Any) -> Any:
        """A value in which every text, keys included, is a template; one that gives YAML (`3`, `true`, a list as JSON) becomes that.

        What comes of a text is rendered no second time: it holds what senders of alerts wrote.
        """
        return _copied(value, self.text)

    def _render(self, source: str, *, html: bool) -> str:
        if "{{" not in source:
            return source
        now = self._notice.now
        functions: dict[str, Function] = {
            **_FUNCTIONS,
            "since": lambda moment: Span((now - moment_of(moment).ms) / 1000),
            "routeLabels": self._route_label,
        }
        if self._data is None:
            self._data = data_of(self._notice)
        try:
            template = self._templates.prepared(source)
            return render(template, self._data, functions=functions, limits=LIMITS, escape=escaped if html else None)
        except BadInput as error:
            raise Undeliverable(f"template: {error}", reason="template", retryable=False) from None
