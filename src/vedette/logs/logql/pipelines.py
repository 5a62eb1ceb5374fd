"""Selectors and the stages behind them, read word by word.

Not here: the metric queries around them (`parser.py`), what stages do (`stages.py`).
"""

from __future__ import annotations

from vedette.errors import BadInput
from vedette.logs.logql.nodes import (
    Chosen,
    Condition,
    Decolorize,
    Joined,
    LabelFilter,
    LabelFormat,
    LineFilter,
    LineFormat,
    Matcher,
    Parser,
    Pipeline,
    Stage,
)
from vedette.logs.logql.tokens import Token, misread, tokens

_LINE = ("|=", "!=", "|~", "!~", "|>", "!>")
_MATCH = ("=", "!=", "=~", "!~")
_NUMERIC = ("=", "==", "!=", ">", ">=", "<", "<=")
_KINDS = {"number": "NUMBER", "duration": "DURATION", "bytes": "BYTES", "string": "STRING", "name": "IDENTIFIER", "end": "$end"}
_MOST_STAGES = 100
_DEEPEST = 30


class Pipelines:
    """The words of a query, and how far they are read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.words = tokens(text)
        self.at = 0

    @property
    def token(self) -> Token:
        """The next word."""
        return self.words[self.at]

    # -- words ----------------------------------------------------------------------------------------------------------

    def take(self) -> Token:
        """The next word, which is then behind."""
        found = self.token
        if found.kind != "end":
            self.at += 1
        return found

    def taken(self, sign: str) -> bool:
        """Whether the next word is this sign, which is then taken."""
        if self.token.kind == "sign" and self.token.text == sign:
            self.at += 1
            return True
        return False

    def named(self, name: str) -> bool:
        """Whether the next word is this name, which is then taken."""
        if self.token.kind == "name" and self.token.text == name:
            self.at += 1
            return True
        return False

    def error(self, problem: str, at: Token | int | None = None, hint: str = "") -> BadInput:
        """The refusal that points at a word."""
        place = self.token.at if at is None else at.at if isinstance(at, Token) else at
        return misread(self.text, place, problem, hint)

    def unexpected(self, expected: str = "") -> BadInput:
        """The refusal of the next word."""
        word = self.token
        shown = _KINDS.get(word.kind, word.text)
        shown += f" {word.text[:40]!r}" if word.kind in ("name", "number", "duration", "bytes") else ""
        return self.error(f"unexpected {shown}" + (f", expecting {expected}" if expected else ""))

    def expect(self, sign: str) -> None:
        """Take this sign. Raises `BadInput` where it is not the next."""
        if not self.taken(sign):
            raise self.unexpected(sign)

    def name(self) -> str:
        """Take a name."""
        if self.token.kind != "name":
            raise self.unexpected("IDENTIFIER")
        return self.take().text

    def string(self) -> str:
        """Take a string."""
        if self.token.kind != "string":
            raise self.unexpected("STRING")
        return self.take().string

    def number(self) -> float:
        """Take a number."""
        if self.token.kind != "number":
            raise self.unexpected("NUMBER")
        return self.take().value

    def signed(self) -> float:
        """Take a number with or without a sign."""
        sign = -1.0 if self.taken("-") else 1.0
        self.taken("+")
        return sign * self.number()

    def duration(self) -> int:
        """Take a duration, which may be negative; in ns."""
        sign = -1 if self.taken("-") else 1
        if self.token.kind != "duration":
            raise self.unexpected("DURATION")
        return sign * round(self.take().value * 1e9)

    def span(self) -> int:
        """Take a range in brackets; in ns, above zero."""
        self.expect("[")
        at = self.token
        found = self.duration()
        if found <= 0:
            raise self.error("a range that is not above zero", at)
        self.expect("]")
        return found

    def names(self) -> tuple[str, ...]:
        """Take names in parentheses."""
        self.expect("(")
        found: list[str] = []
        while not self.taken(")"):
            found.append(self.name())
            if self.token.text != ")":
                self.expect(",")
        return tuple(found)

    # -- lines ------------------------------------------------------------------------------------------------------------

    def selector(self) -> Pipeline:
        """`{…}`."""
        self.expect("{")
        found: list[Matcher] = []
        while not self.taken("}"):
            name = self.name()
            if self.token.text not in _MATCH:
                raise self.unexpected("=, !=, =~ or !~")
            op = self.take().text
            found.append(Matcher(name, op, self.string()))  # type: ignore[arg-type]  # one of them, as was just seen
            if self.token.text != "}":
                if self.token.text != ",":
                    raise self.unexpected("} or ,")
                self.take()
        return Pipeline(tuple(found))

    def pipeline(self) -> Pipeline:
        """A selector with its stages."""
        return self.stages(self.selector())

    def starts_stage(self) -> bool:
        """Whether a stage comes next."""
        return self.token.kind == "sign" and (self.token.text in _LINE or self.token.text == "|")

    def stages(self, before: Pipeline) -> Pipeline:
        """The stages that follow; an `unwrap` is left to who knows what to do with it."""
        found = list(before.stages)
        while self.starts_stage() and not (self.token.text == "|" and self.words[self.at + 1].text == "unwrap"):
            if len(found) >= _MOST_STAGES:
                raise self.error(f"more than {_MOST_STAGES} stages")
            found.append(self.stage())
        return Pipeline(before.matchers, tuple(found))

    def stage(self) -> Stage:
        """One stage."""
        if self.token.text in _LINE:
            return self.line_filter()
        self.expect("|")
        word = self.token
        compared = self.words[min(self.at + 1, len(self.words) - 1)].text in (*_NUMERIC, *_MATCH)
        if word.kind == "name" and not compared:
            self.take()
            match word.text:
                case "json" | "logfmt":
                    return self.chosen_parser(word.text)
                case "unpack":
                    return Parser("unpack")
                case "regexp" | "pattern":
                    return Parser(word.text, self.string())
                case "line_format":
                    return LineFormat(self.string())
                case "label_format":
                    return self.label_format()
                case "decolorize":
                    return Decolorize()
                case "drop" | "keep":
                    return self.chosen(word.text)
            self.at -= 1
        return self.label_filter()

    def line_filter(self) -> LineFilter:
        """`|= "text" or "another"`."""
        op = self.take().text
        texts: list[str] = []
        ip = self.token.kind == "name" and self.token.text == "ip"
        while True:
            if ip:
                if op not in ("|=", "!=") or not self.named("ip"):
                    raise self.unexpected("STRING")
                self.expect("(")
                texts.append(self.string())
                self.expect(")")
            else:
                texts.append(self.string())
            if not self.named("or"):
                return LineFilter(op, tuple(texts), ip)
            if len(texts) >= _MOST_STAGES:
                raise self.error(f"more than {_MOST_STAGES} alternatives")

    def chosen_parser(self, kind: str) -> Parser:
        """`json` or `logfmt` with what they are to find."""
        strict = keep_empty = False
        while self.token.text in ("--strict", "--keep-empty"):
            if kind == "json":
                raise self.unexpected()
            if self.take().text == "--strict":
                strict = True
            else:
                keep_empty = True
        found: list[tuple[str, str]] = []
        while self.token.kind == "name" and self.token.text not in ("or", "and", "offset"):
            label = self.take().text
            found.append((label, self.string() if self.taken("=") else label))
            if not self.taken(","):
                break
        return Parser(kind, "", tuple(found), strict, keep_empty)

    def label_format(self) -> LabelFormat:
        """`label_format a=b, c="{{.d}}"`."""
        found: list[tuple[str, str, bool]] = []
        while True:
            label = self.name()
            if any(label == other for other, _, _ in found):
                raise self.error(f"multiple label_format operations for {label!r}")
            self.expect("=")
            found.append((label, self.take().text, True) if self.token.kind == "name" else (label, self.string(), False))
            if not self.taken(","):
                return LabelFormat(tuple(found))

    def chosen(self, kind: str) -> Chosen:
        """`drop a, b="x"`."""
        found: list[str | Matcher] = []
        while True:
            label = self.name()
            if self.token.text in _MATCH:
                op = self.take().text
                found.append(Matcher(label, op, self.string()))  # type: ignore[arg-type]
            else:
                found.append(label)
            if not self.taken(","):
                return Chosen(kind, tuple(found))  # type: ignore[arg-type]

    # -- conditions on labels ------------------------------------------------------------------------------------------------

    def label_filter(self, depth: int = 0) -> LabelFilter:
        """Conditions joined by `or`, and within that by `and`, a comma or nothing."""
        return LabelFilter(self._alternatives(depth))

    def _alternatives(self, depth: int) -> Condition | Joined:
        parts = [self._together(depth)]
        while self.named("or"):
            parts.append(self._together(depth))
        return parts[0] if len(parts) == 1 else Joined("or", tuple(parts))

    def _together(self, depth: int) -> Condition | Joined:
        parts = [self._condition(depth)]
        while self.named("and") or self.taken(",") or (self.token.kind == "name" and self.token.text not in ("or", "offset")):
            parts.append(self._condition(depth))
            if len(parts) > _MOST_STAGES:
                raise self.error(f"more than {_MOST_STAGES} conditions")
        return parts[0] if len(parts) == 1 else Joined("and", tuple(parts))

    def _condition(self, depth: int) -> Condition | Joined:
        if depth > _DEEPEST:
            raise self.error(f"nested more than {_DEEPEST} deep")
        if self.taken("("):
            inside = self._alternatives(depth + 1)
            self.expect(")")
            return inside
        name = self.name()
        op = self.token
        if op.kind != "sign" or op.text not in (*_NUMERIC, "=~", "!~"):
            raise self.unexpected("a parser, a format or a comparison such as = or >=")
        self.take()
        word = self.token
        if word.kind == "string" and op.text in _MATCH:
            return Condition(name, op.text, self.take().string, "text")
        if word.text == "ip" and op.text in ("=", "!="):
            self.take()
            self.expect("(")
            found = Condition(name, op.text, self.string(), "ip")
            self.expect(")")
            return found
        negative = op.text in _NUMERIC and self.taken("-")
        word = self.token
        if op.text in _NUMERIC and word.kind in ("number", "duration", "bytes"):
            self.take()
            sign, minus = (-1.0, "-") if negative else (1.0, "")
            equal = "==" if op.text == "=" else op.text
            return Condition(name, equal, minus + word.text, word.kind, sign * word.value)
        numbers = "NUMBER, DURATION, BYTES" + (" or STRING" if op.text in _MATCH else "")
        raise self.unexpected("STRING" if op.text in ("=~", "!~") else numbers)
