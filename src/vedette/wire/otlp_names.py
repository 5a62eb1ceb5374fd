"""What OTLP's metrics, attributes and units are called in Prometheus: the four translation strategies.

After `github.com/prometheus/otlptranslator` and OpenTelemetry's compatibility specification. Pure functions of names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Strategy = Literal["UnderscoreEscapingWithSuffixes", "UnderscoreEscapingWithoutSuffixes", "NoUTF8EscapingWithSuffixes", "NoTranslation"]
STRATEGIES: tuple[Strategy, ...] = (
    "UnderscoreEscapingWithSuffixes",
    "UnderscoreEscapingWithoutSuffixes",
    "NoUTF8EscapingWithSuffixes",
    "NoTranslation",
)

Kind = Literal["gauge", "counter", "sum", "histogram", "summary"]
"""What a metric is; `sum` is one that may also fall."""

_UNITS = {
    "d": "days", "h": "hours", "min": "minutes", "s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds",
    "By": "bytes", "KiBy": "kibibytes", "MiBy": "mebibytes", "GiBy": "gibibytes", "TiBy": "tibibytes", "KBy": "kilobytes",
    "MBy": "megabytes", "GBy": "gigabytes", "TBy": "terabytes", "m": "meters", "V": "volts", "A": "amperes", "J": "joules",
    "W": "watts", "g": "grams", "Cel": "celsius", "Hz": "hertz", "1": "", "%": "percent",
}  # fmt: skip
_PER = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week", "mo": "month", "y": "year"}
_NOT_METRIC = re.compile(r"[^a-zA-Z0-9:_]")
_NOT_TOKEN = re.compile(r"[^a-zA-Z0-9:]+")
_NOT_LABEL = re.compile(r"[^a-zA-Z0-9_]")
_SEVERAL = re.compile(r"_{2,}")


@dataclass(frozen=True, slots=True)
class Names:
    """How names are made. `underscores` keeps several in a row in labels, `private` puts `key` before a label's single leading one."""

    strategy: Strategy = "UnderscoreEscapingWithSuffixes"
    underscores: bool = True
    private: bool = True

    @property
    def escaping(self) -> bool:
        """Whether what Prometheus did not allow before UTF-8 becomes underscores."""
        return self.strategy.startswith("Underscore")

    def metric(self, name: str, unit: str, kind: Kind) -> str:
        """A metric's name."""
        if self.strategy == "NoTranslation":
            return name
        if self.strategy == "NoUTF8EscapingWithSuffixes":
            return _suffixed(name, unit, kind)
        if self.strategy == "UnderscoreEscapingWithoutSuffixes":
            made = "_".join(token for token in _NOT_METRIC.sub("_", name).split("_") if token)
        else:
            made = "_".join(_tokens(name, unit, kind))
        return f"_{made}" if made[:1].isdigit() else made

    def label(self, name: str) -> str:
        """A label's name."""
        if not self.escaping or not name:
            return name
        made = _NOT_LABEL.sub("_", name)
        if not self.underscores:
            made = _SEVERAL.sub("_", made)
        if made[0].isdigit():
            return f"key_{made}"
        return f"key{made}" if self.private and made[0] == "_" and not made.startswith("__") else made


def _tokens(name: str, unit: str, kind: Kind) -> list[str]:
    """The parts of a name with its unit and its type."""
    tokens = [token for token in _NOT_TOKEN.split(name) if token]
    main, per = _units(unit)
    main, per = _plain(main), _plain(per)
    if main and main not in tokens:
        tokens.append(main)
    if per and per not in tokens:
        tokens += ["per", per]
    if kind == "counter":
        return [*(part for part in tokens if part != "total"), "total"]
    if unit == "1" and kind == "gauge":
        return [*(part for part in tokens if part != "ratio"), "ratio"]
    return tokens


def _suffixed(name: str, unit: str, kind: Kind) -> str:
    """A name left as it is, with its unit and its type behind it unless it ends with them."""
    main, per = _units(unit)
    total = kind == "counter"
    ratio = unit == "1" and kind == "gauge"
    made = name.removesuffix("_total") if total else name.removesuffix("_ratio") if ratio else name
    behind = "_".join(part for part in (main, f"per_{per}" if per else "") if part)
    if behind and not made.endswith(f"_{behind}") and made != behind:
        made = f"{made}_{behind}"
    return f"{made}_total" if total else f"{made}_ratio" if ratio else made


def _units(unit: str) -> tuple[str, str]:
    """(the unit, the unit it is per), in words; empty where it has none, or one in braces, which is a remark."""
    main, _, per = unit.partition("/")
    main, per = main.strip(), per.strip()
    main = "" if "{" in main or "}" in main else _UNITS.get(main, main)
    per = "" if "{" in per or "}" in per else _PER.get(per, per)
    return main, per


def _plain(unit: str) -> str:
    return "_".join(token for token in _NOT_TOKEN.split(unit) if token)
