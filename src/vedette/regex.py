"""Compiling the regular expressions that users send, without letting one stop the server.

RE2 matches in linear time, yet the time it compiles in is not linear: parts that may be left out are told apart from
each other, each from each, and a class of Unicode is taken apart at every place where it stands. 780 bytes took 21 s,
holding the interpreter's lock. Hence a bound on both that is far above what people write. Here is, too, what is put in
place of a match: how long that gets is known before it is made. Not here: matchers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, AnyStr

import re2

MAX_WEIGHT = 5000
"""Most optional parts in one expression, repetitions counted as often as they may happen: compiled in 0.2 s or so."""
_CLASS_WEIGHT = 5
_TOO_LARGE = "expression too large"

_TOKEN = re.compile(
    r"(?P<quoted>\\Q.*?(?:\\E|\Z))|(?P<unicode>\\[pP])|(?P<escape>\\.?)"
    r"|(?P<class>\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\]?)|(?P<open>\(\??)|(?P<close>\))"
    r"|(?P<times>\{(\d{1,5})(?:(,)(\d{1,5})?)?\})|(?P<optional>[*?])|(?P<plain>[^\\\[()*?{]+|\{)",
    re.DOTALL,
)
_UNICODE = re.compile(r"\\[pP]")
_REFERENCE = re.compile(r"\$(?:\$|(\w+)|\{(\w+)\})", re.ASCII)
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")


def bounded(pattern: AnyStr, options: re2.Options) -> Any:
    """A compiled expression. Raises `re2.error`, also for one that would take long to compile, or is none of Go's (`\\C`, a byte)."""
    if _any_byte(pattern if isinstance(pattern, str) else pattern.decode(errors="replace")):
        raise re2.error("invalid escape sequence: \\C")
    if weight(pattern if isinstance(pattern, str) else pattern.decode(errors="replace")) > MAX_WEIGHT:
        raise re2.error(_TOO_LARGE)
    return re2.compile(pattern, options)


def _any_byte(pattern: str) -> bool:
    # Prometheus' expressions are of characters: half of one is no label's value.
    return "\\C" in pattern and any(token.lastgroup == "escape" and token[0] == "\\C" for token in _TOKEN.finditer(pattern))


def weight(pattern: str, maximum: int = MAX_WEIGHT) -> int:
    """How many optional parts an expression has; above `maximum`, any number above it.

    `x?`, `x*` and each of the m in `x{n,m}` are one, and what is repeated counts as often; a class of Unicode is some.
    """
    outer: list[int] = []
    whole = last = seen = 0
    """What the open group holds, of that what a repetition would be of, and what was read in all."""
    for token in _TOKEN.finditer(pattern):
        kind = token.lastgroup
        if kind == "open":
            outer.append(whole)
            whole = last = 0
        elif kind == "close":
            last = whole
            whole += outer.pop() if outer else 0
        elif kind == "times":
            least, more, most = int(token[8]), token[9], token[10]
            times = max(int(most or least), 1)
            grown = last * times + (times if more and most else 1 if more else 0)
            whole, last, seen = whole + grown - last, grown, max(seen, grown)
        elif kind == "optional":
            whole, last, seen = whole + 1, last + 1, seen + 1
        else:
            last = _CLASS_WEIGHT * (kind == "unicode" or (kind == "class" and len(_UNICODE.findall(token[0]))))
            whole, seen = whole + last, seen + last
        if seen > maximum or whole > maximum:
            break
    return max(seen, whole)


class Template:
    """A Go replacement template: `$1`, `$name`, `${name}`, `$$`; the longest name counts, an unknown one is empty."""

    def __init__(self, text: str, groups: int, names: Mapping[str, int]) -> None:
        """`groups` are how many the pattern has, `names` the numbers of those with a name."""
        pieces: list[str | int] = []
        at = 0
        for found in _REFERENCE.finditer(text):
            pieces.append(text[at : found.start()])
            at = found.end()
            name = found.group(1) or found.group(2)
            if name is None:
                pieces.append("$")
            elif (number := int(name) if _NUMBER.fullmatch(name) else names.get(name, groups + 1)) <= groups:
                pieces.append(number)
        pieces.append(text[at:])
        self._pieces = [piece for piece in pieces if piece != ""]
        self._literal = sum(len(piece) for piece in self._pieces if isinstance(piece, str))
        self.wanted = tuple(sorted({piece for piece in self._pieces if isinstance(piece, int)}))
        """The groups that it refers to."""
        self._times = [self._pieces.count(number) for number in self.wanted]

    def __len__(self) -> int:
        """Of how many pieces it is."""
        return len(self._pieces)

    def length(self, groups: Sequence[str]) -> int:
        """How long its text is, where the groups of `wanted` have matched these."""
        return self._literal + sum(times * len(group) for times, group in zip(self._times, groups, strict=True))

    def expanded(self, groups: Sequence[str]) -> str:
        """Its text, where the groups of `wanted` have matched these."""
        by_number = dict(zip(self.wanted, groups, strict=True))
        return "".join([by_number[piece] if isinstance(piece, int) else piece for piece in self._pieces])
