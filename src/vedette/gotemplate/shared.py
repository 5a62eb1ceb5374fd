"""Functions that Prometheus' and Alertmanager's templates share, by the names templates use.

`TEXT` is in both; `PROMETHEUS` adds what rule annotations have and needs neither queries nor URLs. All are pure and
raise `ValueError` for what they cannot take. Not here: `query` and its kin, which need a querier (`rules/template.py`).
"""

from __future__ import annotations

import math
import re
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

import re2

from vedette import regex
from vedette.gotemplate.functions import Function
from vedette.gotemplate.values import SafeText, bounded, format_float, type_name

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 8 << 20


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"wrong type for value; expected string; got {type_name(value)}")
    return value


def _compiled(pattern: Any) -> Any:
    try:
        return regex.bounded(_text(pattern), _OPTIONS)
    except re2.error as error:
        detail = error.args[0] if error.args else "bad pattern"
        raise ValueError(f"error parsing regexp: {detail.decode() if isinstance(detail, bytes) else detail}") from None


def match(pattern: Any, text: Any) -> bool:
    """Whether `pattern` (RE2, not anchored) occurs in `text`."""
    return _compiled(pattern).search(_text(text)) is not None


_REFERENCE = re.compile(r"\$(?:(\$)|(\w+)|\{(\w+)\})")


def replace_all(pattern: Any, replacement: Any, text: Any) -> str:
    """`reReplaceAll`: `$1` and `${name}` in the replacement refer to groups, as in Go (`$1x` is the group named `1x`)."""
    compiled, source = _compiled(pattern), _text(text)
    parts = _REFERENCE.split(_text(replacement))

    def pieces() -> Iterator[str]:
        at = 0
        for found in compiled.finditer(source):
            yield source[at : found.start()]
            # `split` answers literal, $$, $name, ${name}, literal, …
            for i in range(0, len(parts), 4):
                yield parts[i]
                if i + 1 < len(parts):
                    yield "$" if parts[i + 1] else _group(found, parts[i + 2] or parts[i + 3])
            at = found.end()
        yield source[at:]

    return bounded(pieces())


def _group(found: Any, name: str) -> str:
    index = int(name[:9]) if name.isdecimal() else found.re.groupindex.get(name, -1)
    if not 0 <= index <= found.re.groups:
        return ""
    return found.group(index) or ""


def title(text: Any) -> str:
    """The first letter of each word in upper case, the rest as it is."""
    return re.sub(r"(?<!['’\w])\w", lambda m: m.group().upper(), _text(text))


def to_float(value: Any) -> float:
    """A number, or text that reads as one (also `Inf`, hexadecimal). Raises `ValueError`."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        raise ValueError(f"can't convert {type_name(value)} to float")
    try:
        return float.fromhex(value) if value.lower().lstrip("+-").startswith("0x") else float(value)
    except (ValueError, OverflowError):
        raise ValueError(f'strconv.ParseFloat: parsing "{value}": invalid syntax') from None


def _short(value: float, suffix: str = "") -> str:
    return format_float(value, "g", 4) + suffix


def _scaled(value: float, base: float, prefixes: tuple[str, ...]) -> tuple[float, str]:
    prefix = ""
    for candidate in prefixes:
        if abs(value) < base:
            break
        prefix, value = candidate, value / base
    return value, prefix


def _magnified(value: float) -> tuple[float, str]:
    prefix = ""
    for candidate in ("m", "u", "n", "p", "f", "a", "z", "y"):
        if abs(value) >= 1:
            break
        prefix, value = candidate, value * 1000
    return value, prefix


def humanize(number: Any) -> str:
    """Four digits and a metric prefix: `1.235M`, `12.3m`."""
    value = to_float(number)
    if value == 0 or not math.isfinite(value):
        return _short(value)
    if abs(value) >= 1:
        return _short(*_scaled(value, 1000, ("k", "M", "G", "T", "P", "E", "Z", "Y")))
    return _short(*_magnified(value))


def humanize1024(number: Any) -> str:
    """Four digits and a binary prefix: `1.5Gi`."""
    value = to_float(number)
    if abs(value) <= 1 or not math.isfinite(value):
        return _short(value)
    return _short(*_scaled(value, 1024, ("ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi")))


def humanize_duration(number: Any) -> str:
    """Seconds as `1d 2h 3m 4s`; below a minute with four digits, below a second with a prefix."""
    value = to_float(number)
    if not math.isfinite(value):
        return _short(value)
    if value == 0:
        return _short(value, "s")
    if abs(value) < 1:
        value, prefix = _magnified(value)
        return _short(value, prefix + "s")
    sign, value = ("-", -value) if value < 0 else ("", value)
    whole = int(value)
    days, hours, minutes, seconds = whole // 86400, whole // 3600 % 24, whole // 60 % 60, whole % 60
    if days:
        return f"{sign}{days}d {hours}h {minutes}m {seconds}s"
    if hours:
        return f"{sign}{hours}h {minutes}m {seconds}s"
    if minutes:
        return f"{sign}{minutes}m {seconds}s"
    return sign + _short(value, "s")


def humanize_percentage(number: Any) -> str:
    """A ratio as per cent, four digits."""
    return _short(to_float(number) * 100, "%")


def _time(number: Any) -> datetime | None:
    value = to_float(number)
    if not math.isfinite(value):
        return None
    if not -(1 << 63) <= value * 1e9 < 1 << 63:
        raise ValueError(f"{value} cannot be represented as a nanoseconds timestamp since it overflows int64")
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=int(value * 1000))


def show_time(moment: datetime) -> str:
    """A time as Go prints it: `2022-01-25 12:36:43.5 +0000 UTC`."""
    fraction = f"{moment.microsecond:06d}".rstrip("0")
    return f"{moment:%Y-%m-%d %H:%M:%S}{'.' + fraction if fraction else ''} +0000 UTC"


def humanize_timestamp(number: Any) -> str:
    """Unix seconds as a date and time in UTC."""
    moment = _time(number)
    return _short(to_float(number)) if moment is None else show_time(moment)


def _to_time(number: Any) -> str:
    moment = _time(number)
    if moment is None:
        raise ValueError("NaN or Inf is no time")
    return show_time(moment)


def strip_port(host_port: Any) -> str:
    """`host:port` without the port; what has none stays as it is."""
    text = _text(host_port)
    bracketed = re.fullmatch(r"\[([^\[\]]*)\]:[^:\[\]]*", text)
    if bracketed:
        return bracketed.group(1)
    host, colon, port = text.rpartition(":")
    return host if colon and ":" not in host and "[" not in text and "]" not in text and port is not None else text


def strip_domain(host_port: Any) -> str:
    """The first label of a host name, its port kept; an address stays as it is."""
    text = _text(host_port)
    host = strip_port(text)
    port = text[len(host) :] if host != text and text.startswith(host) else ""
    try:
        ip_address(host)
    except ValueError:
        return host.split(".", 1)[0] + port
    return text


def _args(*values: Any) -> dict[str, Any]:
    return {f"arg{i}": v for i, v in enumerate(values)}


TEXT: dict[str, Function] = {
    "match": match,
    "reReplaceAll": replace_all,
    "safeHtml": lambda text: SafeText(_text(text)),
    "title": title,
    "toUpper": lambda text: _text(text).upper(),
    "toLower": lambda text: _text(text).lower(),
}

PROMETHEUS: dict[str, Function] = {
    **TEXT,
    "args": _args,
    "humanize": humanize,
    "humanize1024": humanize1024,
    "humanizeDuration": humanize_duration,
    "humanizePercentage": humanize_percentage,
    "humanizeTimestamp": humanize_timestamp,
    "stripPort": strip_port,
    "stripDomain": strip_domain,
    "toTime": _to_time,
    "urlQueryEscape": lambda text: urllib.parse.quote_plus(_text(text), safe="-_.~"),
}
