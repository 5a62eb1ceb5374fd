"""Names for scrapers that know no UTF-8 names: Prometheus' escaping schemes, as a scraper's `Accept` asks for them (`escaping=`).

Names that are fine as they are stay so in every scheme. Not here: who asks, and the text itself (`exposition.py`).
"""

from __future__ import annotations

from collections.abc import Callable

from vedette.model.labels import is_legacy_metric_name

Spell = Callable[[str], str]
"""A name as it is written."""


def as_it_is(name: str) -> str:
    """`allow-utf-8`: nothing is escaped."""
    return name


def underscores(name: str) -> str:
    """Every character that is not allowed becomes an underscore. Two names may become one."""
    if not name or is_legacy_metric_name(name):
        return name
    return "".join(c if _plain(c, i) else "_" for i, c in enumerate(name))


def dots(name: str) -> str:
    """Dots become `_dot_`, underscores two, all else that is not allowed `__`."""
    if not name or is_legacy_metric_name(name):
        return name
    return "".join("__" if c == "_" else "_dot_" if c == "." else c if _plain(c, i) else "__" for i, c in enumerate(name))


def values(name: str) -> str:
    """`U__`, then the characters, those that are not allowed as their code in hexadecimal between underscores: nothing is lost."""
    if not name or is_legacy_metric_name(name):
        return name
    return "U__" + "".join("__" if c == "_" else c if _plain(c, i) else f"_{ord(c):x}_" for i, c in enumerate(name))


SCHEMES: dict[str, Spell] = {"allow-utf-8": as_it_is, "underscores": underscores, "dots": dots, "values": values}


def asked_for(accept: str) -> str:
    """The scheme that an `Accept` header names first; empty where it names none that there is."""
    for offer in accept.split(","):
        for param in offer.split(";")[1:]:
            name, _, value = param.strip().partition("=")
            if name.strip() == "escaping" and value.strip() in SCHEMES:
                return value.strip()
    return ""


def _plain(character: str, at: int) -> bool:
    return character.isascii() and (character.isalpha() or character in "_:" or (character.isdigit() and at > 0))
