"""Text to tokens. Which characters make a token depends on whether braces or brackets are open, as in Prometheus.

Not here: what order tokens may come in (`grammar.lark`). Messages are Prometheus', and point at the token's start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from vedette.promql.errors import ParseError, parse_error


class Token(NamedTuple):
    """One token: its terminal's name in the grammar, its text, and where it starts and ends (in characters)."""

    kind: str
    text: str
    start: int
    end: int


OPERATORS = {
    "+": "ADD", "-": "SUB", "*": "MUL", "/": "DIV", "%": "MOD", "^": "POW", "==": "EQLC", "!=": "NEQ", ">": "GTR",
    "<": "LSS", ">=": "GTE", "<=": "LTE", "</": "TRIM_UPPER", ">/": "TRIM_LOWER", "@": "AT", "=~": "EQL_REGEX", "!~": "NEQ_REGEX",
    "and": "LAND", "or": "LOR", "unless": "LUNLESS", "atan2": "ATAN2",
}  # fmt: skip
AGGREGATORS = frozenset(
    (
        "sum",
        "avg",
        "count",
        "min",
        "max",
        "group",
        "stddev",
        "stdvar",
        "topk",
        "bottomk",
        "count_values",
        "quantile",
        "limitk",
        "limit_ratio",
    )
)
KEYWORDS = frozenset(
    (
        "offset",
        "smoothed",
        "anchored",
        "by",
        "without",
        "on",
        "ignoring",
        "group_left",
        "group_right",
        "fill",
        "fill_left",
        "fill_right",
        "bool",
    )
)
_PREPROCESSORS = ("start", "end", "step", "range")
BEFORE_PAREN = frozenset(("FILL", "FILL_LEFT", "FILL_RIGHT", "MIN_OF", "MAX_OF"))
"""Of these, what is an identifier all the same where no parenthesis follows."""
_IN_DURATIONS = frozenset(("step", "range", "min_of", "max_of"))
WORDS = {w: OPERATORS[w] for w in ("and", "or", "unless", "atan2")}
WORDS |= {w: w.upper() for w in (*AGGREGATORS, *KEYWORDS, *_PREPROCESSORS, *_IN_DURATIONS)}
WORDS |= {"inf": "NUMBER", "nan": "NUMBER"}
"""Words outside of braces that are no identifiers, in lower case, and their terminals."""
_PUNCTUATION = {
    "(": "LEFT_PAREN", ")": "RIGHT_PAREN", "[": "LEFT_BRACKET", "]": "RIGHT_BRACKET", "{": "LEFT_BRACE", "}": "RIGHT_BRACE",
    ",": "COMMA", "=": "EQL", ":": "COLON",
}  # fmt: skip

_SPACE = re.compile(r"(?:[ \t\n\r]+|#[^\r\n]*)+")
_WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_SYMBOL = re.compile(r"==|!=|<=|>=|</|>/|[-+*/%^=<>@(),\[\]{]")
_BRACE_SYMBOL = re.compile(r"=~|!~|!=|[=,{}]")
_BRACKET_SYMBOL = re.compile(r"[-+*/%^(),:\]]")
_NUMBER = re.compile(
    r"0[xX]_?[0-9a-fA-F]+(?:_[0-9a-fA-F]+)*|(?:[0-9]+(?:_[0-9]+)*\.?(?:[0-9]+(?:_[0-9]+)*)?|\.[0-9]+(?:_[0-9]+)*)(?:[eE][+-]?[0-9]+(?:_[0-9]+)*)?"
)
_DURATION = re.compile(r"[0-9]+(?:ms|[smhdwy])(?:[0-9]+(?:ms|[smhdw]))*")
_NOTHING = "\N{REPLACEMENT CHARACTER}"
"""How Go prints the character behind the end of the text."""
_ALNUM = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_QUOTED = {
    '"': re.compile(r'"(?:[^"\\\n]|\\.)*"', re.DOTALL),
    "'": re.compile(r"'(?:[^'\\\n]|\\.)*'", re.DOTALL),
    "`": re.compile(r"`[^`]*`"),
}
_ESCAPE = re.compile(r"\\(?:[abfnrtv\\]|[0-7]{3}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|(.))", re.DOTALL)
_ESCAPE_BEGUN = re.compile(r"[0-7]{1,2}|x[0-9a-fA-F]?|u[0-9a-fA-F]{0,3}|U[0-9a-fA-F]{0,7}")
_UNENDED = {quote: re.compile(rf"{quote}(?:[^{quote}\\\n]|\\.)*\\?", re.DOTALL) for quote in "\"'"}
_BEYOND = "\udfff"
"""Stands behind the end of the text, where an escape may lack its rest; no text has it."""
_SIMPLE_ESCAPES = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, "'": 39, '"': 34}


def quoted(text: str) -> str:
    """`text` as Go's `%q` prints a string; a surrogate escape stands for a byte that is no UTF-8."""
    out = []
    for c in text:
        if c in '"\\':
            out.append("\\" + c)
        elif c in "\n\t\r\a\b\f\v":
            out.append({"\n": "\\n", "\t": "\\t", "\r": "\\r", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\v": "\\v"}[c])
        elif c.isprintable():
            out.append(c)
        elif "\udc80" <= c <= "\udcff":
            out.append(f"\\x{ord(c) - 0xDC00:02x}")
        else:
            out.append(f"\\x{ord(c):02x}" if ord(c) < 0x80 else f"\\u{ord(c):04x}")
    return '"' + "".join(out) + '"'


def quoted_char(c: str) -> str:
    """One character as Go's `%q` prints a rune."""
    return "'\\''" if c == "'" else "'" + (c if c == '"' else quoted(c)[1:-1]) + "'"


_AS_DURATION = re.compile(r"[smhdwy]s?(?:[0-9]+[smhdw]s?)*(?:[0-9]+|[a-zA-Z_]|)|")
"""What is tried behind the digits, up to the first character that no duration has."""
_BROKEN_OFF = re.compile(r"[eE][+-]?|[._]|")


def _read_as_number(text: str, start: int) -> str:
    """What Prometheus' lexer has read of a number or a duration when it gives up."""
    if text[start : start + 2] in ("0x", "0X"):
        return text[start : start + 2]
    number = _NUMBER.match(text, start)
    upto = number.end() if number else start + 1
    for tried in (_BROKEN_OFF, _AS_DURATION):
        found = tried.match(text, upto)
        assert found is not None, "nothing at all matches, too"
        upto = found.end()
    return text[start:upto][:64]


class _Lexer:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.parens = 0
        self.brace = False
        self.bracket = False
        self.colon = False

    def fail(self, start: int, message: str) -> ParseError:
        return parse_error(self.text, start, message)

    def tokens(self) -> Iterator[Token]:
        text, size = self.text, len(self.text)
        while True:
            if space := _SPACE.match(text, self.at):
                self.at = space.end()
            if self.at >= size:
                yield self.end()
                return
            c = text[self.at]
            if c in "\"'`":
                token = self.string(c)
            elif self.brace:
                token = self.in_braces(c)
            elif (c.isdigit() and c.isascii()) or (c == "." and text[self.at + 1 : self.at + 2].isdigit()):
                token = self.number()
            elif self.bracket:
                token = self.in_brackets(c)
            else:
                token = self.statement(c)
            self.at = token.end
            yield token

    def end(self) -> Token:
        size = len(self.text)
        if self.brace:
            raise self.fail(size, "unexpected end of input inside braces")
        if self.bracket:
            raise self.fail(size, "unexpected end of input in duration expression")
        if self.parens:
            raise self.fail(size, "unclosed left parenthesis")
        return Token("$END", "", size, size)

    def string(self, quote: str) -> Token:
        found = _QUOTED[quote].match(self.text, self.at)
        if found is None:
            kind = "raw" if quote == "`" else "quoted"
            if (begun := quote != "`" and _UNENDED[quote].match(self.text, self.at)) and "\\" in begun.group():
                # What is read first is said first.
                rest = begun.group() + (self.text[begun.end() : begun.end() + 1] or _BEYOND) + quote
                unquoted(Token("STRING", rest, self.at, begun.end()), self.text)
            raise self.fail(self.at, f"unterminated {kind} string")
        token = Token("STRING", found.group(), self.at, found.end())
        if quote != "`" and "\\" in token.text:
            unquoted(token, self.text)  # a bad escape is found where it stands, whether or not a string may stand there
        return token

    def in_braces(self, c: str) -> Token:
        start = self.at
        if word := _LABEL.match(self.text, start):
            return Token("IDENTIFIER", word.group(), start, word.end())
        found = _BRACE_SYMBOL.match(self.text, start)
        if found is None:
            if c == "!":
                raise self.fail(
                    start, f"unexpected character after '!' inside braces: {quoted_char(self.text[start + 1 : start + 2] or _NOTHING)}"
                )
            raise self.fail(start, f"unexpected character inside braces: {quoted_char(c)}")
        symbol = found.group()
        if symbol == "{":
            raise self.fail(start, "unexpected left brace '{'")
        self.brace = symbol != "}"
        return Token(_PUNCTUATION.get(symbol) or OPERATORS[symbol], symbol, start, found.end())

    def number(self) -> Token:
        start, text = self.at, self.text
        found = _NUMBER.match(text, start)
        if found and text[found.end() : found.end() + 1] not in _ALNUM and text[found.end() : found.end() + 1] != ".":
            return Token("NUMBER", found.group(), start, found.end())
        duration = _DURATION.match(text, start)
        if duration and text[duration.end() : duration.end() + 1] not in _ALNUM:
            return Token("DURATION", duration.group(), start, duration.end())
        raise self.fail(start, f"bad number or duration syntax: {quoted(_read_as_number(text, start))}")

    def in_brackets(self, c: str) -> Token:
        start = self.at
        found = _BRACKET_SYMBOL.match(self.text, start)
        if found is None:
            word = _WORD.match(self.text, start)
            if word and word.group().lower() in _IN_DURATIONS:
                return Token(WORDS[word.group().lower()], word.group(), start, word.end())
            raise self.fail(start, f"unexpected character in duration expression: {quoted_char(c)}")
        if c == "]":
            self.bracket = False
        elif c == ":":
            if self.colon:
                raise self.fail(start, "unexpected repeated colon in duration expression")
            self.colon = True
        elif c == "(":
            self.parens += 1
        elif c == ")":
            self.close_paren(start)
        return Token(_PUNCTUATION.get(c) or OPERATORS[c], c, start, found.end())

    def close_paren(self, start: int) -> None:
        self.parens -= 1
        if self.parens < 0:
            raise self.fail(start + 1, "unexpected right parenthesis ')'")

    def statement(self, c: str) -> Token:
        start, text = self.at, self.text
        if word := _WORD.match(text, start):
            return self.word(word.group(), word.end())
        found = _SYMBOL.match(text, start)
        if found is None:
            after = text[start + 1 : start + 2]
            if c == "!":
                raise self.fail(start, f"unexpected character after '!': {quoted_char(after or _NOTHING)}")
            raise self.fail(start, f"unexpected character: {quoted_char(c)}")
        symbol = found.group()
        if symbol == "=" and text[start + 1 : start + 2] == "~":
            raise self.fail(start, "unexpected character after '=': '~'")
        if symbol == "(":
            self.parens += 1
        elif symbol == ")":
            self.close_paren(start)
        elif symbol == "{":
            self.brace = True
        elif symbol == "[":
            self.bracket, self.colon = True, False
        elif symbol == "]":
            raise self.fail(start, "unexpected right bracket ']'")
        return Token(_PUNCTUATION.get(symbol) or OPERATORS[symbol], symbol, start, found.end())

    def word(self, word: str, end: int) -> Token:
        kind = WORDS.get(word.lower())
        if kind in BEFORE_PAREN:
            # Only a keyword before `(`, so that metrics of that name go on working.
            rest = _SPACE.match(self.text, end)
            follow = rest.end() if rest else end
            if self.text[follow : follow + 1] != "(":
                kind = None
        if kind is None:
            kind = "METRIC_IDENTIFIER" if ":" in word else "IDENTIFIER"
        return Token(kind, word, self.at, end)


def tokens(text: str) -> Iterator[Token]:
    """The tokens of `text`, lazily, the last of kind `$END`. Raises `ParseError` where a token cannot be made."""
    return _Lexer(text).tokens()


def describe(token: Token) -> str:
    """A token as Prometheus names it in `unexpected …`."""
    text, low = token.text, token.text.lower()
    if token.kind == "$END":
        return "end of input"
    if token.kind in ("IDENTIFIER", "METRIC_IDENTIFIER"):
        return f"{'identifier' if token.kind == 'IDENTIFIER' else 'metric identifier'} {quoted(text)}"
    if token.kind in ("NUMBER", "DURATION", "STRING"):
        shown = quoted(text[:10]) + "..." if len(text) > 10 else quoted(text)
        return f"{token.kind.lower()} {shown}"
    if low in KEYWORDS:
        return f"<{text}>"
    if low in AGGREGATORS:
        return f"<aggr:{text}>"
    if (low in OPERATORS and token.kind not in ("EQL_REGEX", "NEQ_REGEX")) or token.kind in ("EQL_REGEX", "NEQ_REGEX"):
        return f"<op:{text}>"
    return quoted(text)


def unquote(token: Token, text: str) -> str:
    """The text that a STRING token stands for. Raises `ParseError` for a bad escape sequence."""
    return unquoted(token, text).decode("utf-8", "replace")


def _escape_problem(string: str, at: int) -> str:
    """What is wrong with an escape of which `at` is the character behind the backslash."""
    begun = _ESCAPE_BEGUN.match(string, at)
    c = string[begun.end() if begun else at]
    if c == _BEYOND:
        return "escape sequence not terminated"
    known = f"U+{ord(c):04X} '{c}'" if c.isprintable() else f"U+{ord(c):04X}"
    return f"illegal character {known} in escape sequence" if begun else f"unknown escape sequence {known}"


def unquoted(token: Token, text: str) -> bytes:
    """The bytes of the same, which escapes may make anything but UTF-8."""
    body = token.text[1:-1]
    if token.text[0] == "`" or "\\" not in body:
        return body.encode("utf-8", "surrogatepass")
    quote = token.text[0]
    out = bytearray()
    at = 0
    for found in _ESCAPE.finditer(body):
        out += body[at : found.start()].encode("utf-8", "surrogatepass")
        at = found.end()
        escape = found.group()[1:]
        if found.group(1) is not None and found.group(1) != quote:
            raise parse_error(text, token.start, _escape_problem(token.text, found.start() + 2))
        if len(escape) == 1:
            out.append(_SIMPLE_ESCAPES[escape])
        elif escape[0] in "uU":
            point = int(escape[1:], 16)
            if point > 0x10FFFF or 0xD800 <= point < 0xE000:
                raise parse_error(text, token.start, "escape sequence is an invalid Unicode code point")
            out += chr(point).encode()
        else:
            value = int(escape[1:], 16) if escape[0] == "x" else int(escape, 8)
            if value > 255:
                raise parse_error(text, token.start, "escape sequence is an invalid Unicode code point")
            out.append(value)
    out += body[at:].encode("utf-8", "surrogatepass")
    return bytes(out)
