"""Relabelling: Prometheus' rewrite rules over a label set, as in `relabel_configs` and `metric_relabel_configs`.

Regular expressions are google-re2's, anchored at both ends; replacements use Go's `$1`, `${1}` and `${name}`. Not here:
which labels a target starts with and which of them remain (`collect/targets.py`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import re2

from vedette.configfile import option
from vedette.errors import BadInput
from vedette.model.labels import Labels
from vedette.model.matchers import compile_regex

Action = Literal[
    "replace", "keep", "drop", "hashmod", "labelmap", "labeldrop", "labelkeep", "lowercase", "uppercase", "keepequal", "dropequal"
]
DEFAULT_REGEX = "(.*)"

_Template = tuple[str | int, ...]
_DEFAULTS = (DEFAULT_REGEX, 0, ";", "$1")

_NEEDS_TARGET = ("replace", "hashmod", "lowercase", "uppercase", "keepequal", "dropequal")
_NO_REPLACEMENT = ("lowercase", "uppercase", "keepequal", "dropequal")
_REFERENCE = re.compile(r"\$(?:\$|(\w+)|\{(\w+)\})")

_OPTIONS = re2.Options()
_OPTIONS.never_nl = False
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 8 << 20
_OPTIONS.dot_nl = True


def _action(text: str) -> str:
    name = text.lower()
    if not name:
        raise BadInput("relabel action cannot be empty")
    if name not in get_args(Action):
        raise BadInput(f"unknown relabel action {text!r}", hint="expected one of " + ", ".join(get_args(Action)))
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class RelabelConfig:
    """One rule. Raises `BadInput`, naming the key, for what Prometheus refuses."""

    source_labels: tuple[str, ...] = ()
    separator: str = ";"
    target_label: str = ""
    regex: str = DEFAULT_REGEX
    modulus: int = 0
    replacement: str = "$1"
    action: str = option("replace", convert=_action)
    _match: Any = field(init=False, repr=False, compare=False, default=None)
    _target: _Template = field(init=False, repr=False, compare=False, default=())
    _value: _Template = field(init=False, repr=False, compare=False, default=())

    def __post_init__(self) -> None:
        compile_regex(self.regex, where="regex")
        compiled = re2.compile(f"(?:{self.regex})", _OPTIONS)
        object.__setattr__(self, "_match", compiled)
        object.__setattr__(self, "_target", _template(self.target_label, compiled))
        object.__setattr__(self, "_value", _template(self.replacement, compiled))
        self._check()

    def _check(self) -> None:
        action = self.action
        if action == "hashmod" and self.modulus <= 0:
            raise BadInput("relabel configuration for hashmod requires non-zero modulus", where="modulus")
        if self.modulus < 0:
            raise BadInput("modulus must not be negative", where="modulus")
        if action in _NEEDS_TARGET and not self.target_label:
            raise BadInput(f"relabel configuration for {action} action requires 'target_label' value")
        if any(not name for name in self.source_labels):
            raise BadInput("'' is not a valid label name", where="source_labels")
        if action in _NO_REPLACEMENT[:2] and self.replacement != "$1":
            raise BadInput(f"'replacement' can not be set for {action} action", where="replacement")
        if action == "labelmap" and not self.replacement:
            raise BadInput("'' is invalid 'replacement' for labelmap action", where="replacement")
        if action in ("keepequal", "dropequal") and (self.regex, self.modulus, self.separator, self.replacement) != _DEFAULTS:
            raise BadInput(f"{action} action requires only 'source_labels' and `target_label`, and no other fields")
        if action in ("labeldrop", "labelkeep"):
            others = (self.source_labels, self.target_label, self.modulus, self.separator, self.replacement)
            if others != ((), "", 0, ";", "$1"):
                raise BadInput(f"{action} action requires only 'regex', and no other fields")


def _template(text: str, compiled: Any) -> _Template:
    """Go's expansion template as literals (str) and group numbers (int); unknown groups expand to nothing."""
    parts: list[str | int] = []
    at = 0
    for found in _REFERENCE.finditer(text):
        parts.append(text[at : found.start()])
        at = found.end()
        name = found.group(1) or found.group(2)
        if name is None:
            parts.append("$")
        elif name.isascii() and name.isdigit() and not (len(name) > 1 and name[0] == "0"):
            if int(name) <= compiled.groups:
                parts.append(int(name))
        elif name in compiled.groupindex:
            parts.append(int(compiled.groupindex[name]))
    parts.append(text[at:])
    return tuple(p for p in parts if p != "")


def _expand(template: _Template, found: Any) -> str:
    return "".join(p if isinstance(p, str) else (found.group(p) or "") for p in template)


def relabel(labels: Labels, configs: Sequence[RelabelConfig]) -> Labels | None:
    """The label set after all rules in order; None where one of them drops it."""
    if not configs:
        return labels
    current = dict(labels)
    for config in configs:
        value = config.separator.join([current.get(n, "") for n in config.source_labels])
        if not _ACTIONS[config.action](config, current, value):
            return None
    return Labels.of(current)


def _set(labels: dict[str, str], name: str, value: str) -> bool:
    # An empty value is no label, so that a later rule finds it absent.
    if value:
        labels[name] = value
    else:
        labels.pop(name, None)
    return True


def _replace(config: RelabelConfig, labels: dict[str, str], value: str) -> bool:
    found = config._match.fullmatch(value)
    if found is not None and (target := _expand(config._target, found)):
        _set(labels, target, _expand(config._value, found))
    return True


def _hashmod(config: RelabelConfig, labels: dict[str, str], value: str) -> bool:
    digest = hashlib.md5(value.encode(), usedforsecurity=False).digest()
    return _set(labels, config.target_label, str(int.from_bytes(digest[8:], "big") % config.modulus))


def _labelmap(config: RelabelConfig, labels: dict[str, str], value: str) -> bool:
    for name, old in list(labels.items()):
        if (found := config._match.fullmatch(name)) is not None and (target := _expand(config._value, found)):
            labels[target] = old
    return True


def _labeldrop(config: RelabelConfig, labels: dict[str, str], value: str) -> bool:
    wanted = config.action == "labelkeep"
    for name in [n for n in labels if (config._match.fullmatch(n) is not None) != wanted]:
        del labels[name]
    return True


def _case(text: str, change: Callable[[str], str]) -> str:
    # Rune by rune and never longer, as Go maps case: a sharp s stays one.
    return "".join(c if len(change(c)) != 1 else change(c) for c in text)


_ACTIONS: dict[str, Callable[[RelabelConfig, dict[str, str], str], bool]] = {
    "replace": _replace,
    "keep": lambda config, _, value: config._match.fullmatch(value) is not None,
    "drop": lambda config, _, value: config._match.fullmatch(value) is None,
    "hashmod": _hashmod,
    "labelmap": _labelmap,
    "labeldrop": _labeldrop,
    "labelkeep": _labeldrop,
    "lowercase": lambda config, labels, value: _set(labels, config.target_label, _case(value, str.lower)),
    "uppercase": lambda config, labels, value: _set(labels, config.target_label, _case(value, str.upper)),
    "keepequal": lambda config, labels, value: labels.get(config.target_label, "") == value,
    "dropequal": lambda config, labels, value: labels.get(config.target_label, "") != value,
}
