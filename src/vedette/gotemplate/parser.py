"""Tokens into a `Template`: Go's text/template grammar, with its checks at parse time (variables, functions).

Not here: running it (`evaluate.py`), and the functions themselves, which callers name. Complex constants and
custom delimiters are not part of this subset.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from vedette.errors import BadInput
from vedette.gotemplate import nodes as n
from vedette.gotemplate.functions import BUILTINS
from vedette.gotemplate.lexer import KEYWORDS, Token, bad, tokens
from vedette.gotemplate.literals import char, number, unquote

MAX_SOURCE = 1 << 20
"""The longest template accepted, in characters."""

MAX_DEPTH = 100
"""How deep branches and parentheses may nest."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A named template with the text it was written in, for positions."""

    name: str
    source: str
    body: n.Block


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template: `main` runs, `definitions` are what `{{ template "x" }}` finds."""

    main: Definition
    definitions: Mapping[str, Definition] = field(default_factory=dict)


def parse(
    source: str,
    *,
    name: str,
    functions: Collection[str] = (),
    variables: Sequence[str] = (),
    definitions: Mapping[str, Definition] | None = None,
) -> Template:
    """Parse a template called `name` (it stands in errors: `name:line:column`).

    `functions` are the callers' function names beside the built-in ones; `variables` (`$labels`) are known in the main
    template, not in those it defines; `definitions` are templates parsed before, which this one may call or replace.
    Raises `BadInput`.
    """
    if len(source) > MAX_SOURCE:
        raise BadInput(f"a template of {len(source)} characters", where=name, hint=f"at most {MAX_SOURCE}")
    parser = _Parser(source, name, frozenset(functions) | BUILTINS.keys(), definitions or {})
    body = parser.main(["$", *variables])
    return Template(Definition(name, source, body), parser.definitions)


class _Parser:
    def __init__(self, source: str, name: str, functions: frozenset[str], definitions: Mapping[str, Definition]) -> None:
        self.source, self.name, self.functions = source, name, functions
        self.definitions = dict(definitions)
        self.tokens: list[Token] = list(tokens(source, name=name))
        self.at = 0
        self.variables: list[str] = []
        self.loops = 0
        self.depth = 0

    # Reading tokens

    def peek(self) -> Token:
        return self.tokens[self.at]

    def next(self) -> Token:
        token = self.tokens[self.at]
        self.at += token.kind != "end"
        return token

    def skip_space(self) -> Token:
        while self.peek().kind == "space":
            self.at += 1
        return self.peek()

    def bad(self, token: Token, problem: str, hint: str = "") -> BadInput:
        return bad(self.name, self.source, token.at, problem, hint)

    def close(self, context: str) -> None:
        token = self.skip_space()
        if token.kind != "close":
            raise self.bad(token, f"unexpected {token.text!r} in {context}")
        self.at += 1

    def deeper(self, token: Token) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.bad(token, f"nested more than {MAX_DEPTH} deep")

    # Blocks

    def main(self, variables: list[str]) -> n.Block:
        self.variables = variables
        body, ended = self.block(top=True)
        if ended is not None:
            raise self.bad(ended, f"unexpected {{{{{ended.text}}}}}")
        return body

    def block(self, *, top: bool = False) -> tuple[n.Block, Token | None]:
        """Nodes up to `end`, `else` or the end of the text; the token is that of the keyword, not yet past its action."""
        found: list[n.Node] = []
        while True:
            token = self.next()
            if token.kind == "end":
                return tuple(found), None
            if token.kind == "text":
                found.append(n.Text(token.at, token.text))
                continue
            assert token.kind == "open"
            word = self.skip_space()
            if word.kind == "name" and word.text in ("end", "else"):
                self.at += 1
                return tuple(found), word
            if word.kind == "name" and word.text == "define":
                if not top:
                    raise self.bad(word, "unexpected {{define}}", "definitions stand at the top level")
                self.define()
                continue
            found.append(self.action(word))

    def action(self, word: Token) -> n.Node:
        if word.kind == "name" and word.text in KEYWORDS - {"nil", "true", "false"}:
            self.at += 1
            if word.text in ("if", "with", "range"):
                return self.branch(word)
            if word.text == "template":
                return self.call(word)
            if word.text == "block":
                return self.inline_block(word)
            if word.text in ("break", "continue"):
                if not self.loops:
                    raise self.bad(word, f"{{{{{word.text}}}}} outside {{{{range}}}}")
                self.close(word.text)
                return n.Jump(word.at, word.text)
            raise self.bad(word, f"unexpected {word.text!r} in command")
        pipeline = self.pipeline("command")
        self.close("command")
        return n.Action(word.at, pipeline)

    def branch(self, word: Token) -> n.Branch:
        self.deeper(word)
        scope = len(self.variables)
        pipeline = self.pipeline(word.text, declares=2 if word.text == "range" else 1)
        self.close(word.text)
        self.loops += word.text == "range"
        body, ended = self.block()
        self.loops -= word.text == "range"
        otherwise: n.Block = ()
        if ended is not None and ended.text == "else":
            chained = self.skip_space()
            if chained.kind == "name" and chained.text in ("if", "with") and word.text == chained.text:
                # `{{else if}}` shares the closing `{{end}}` with its parent.
                self.at += 1
                otherwise = (self.branch(chained),)
                del self.variables[scope:]
                self.depth -= 1
                return n.Branch(word.at, word.text, pipeline, body, otherwise)
            self.close("else")
            otherwise, ended = self.block()
            if ended is not None and ended.text == "else":
                raise self.bad(ended, "expected end; found {{else}}")
        if ended is None:
            raise self.bad(word, f"{{{{{word.text}}}}} lacks its {{{{end}}}}")
        self.close("end")
        del self.variables[scope:]
        self.depth -= 1
        return n.Branch(word.at, word.text, pipeline, body, otherwise)

    def quoted_name(self, context: str) -> str:
        token = self.skip_space()
        if token.kind != "string":
            raise self.bad(token, f"unexpected {token.text!r} in {context}", "expected a name in quotes")
        self.at += 1
        return self.text_of(token)

    def text_of(self, token: Token) -> str:
        try:
            return unquote(token.text)
        except ValueError as error:
            raise self.bad(token, str(error)) from None

    def define(self) -> None:
        word = self.next()
        name = self.quoted_name("define clause")
        self.close("define clause")
        self.definitions[name] = self.body_of(word, name)

    def body_of(self, word: Token, name: str) -> Definition:
        outer, self.variables, loops, self.loops = self.variables, ["$"], self.loops, 0
        self.deeper(word)
        body, ended = self.block()
        if ended is None or ended.text != "end":
            raise self.bad(ended or word, f"{{{{{word.text}}}}} lacks its {{{{end}}}}")
        self.close("end")
        self.depth -= 1
        self.variables, self.loops = outer, loops
        return Definition(self.name, self.source, body)

    def inline_block(self, word: Token) -> n.Call:
        name = self.quoted_name("block clause")
        pipeline = self.pipeline("block clause")
        self.close("block clause")
        self.definitions[name] = self.body_of(word, name)
        return n.Call(word.at, name, pipeline)

    def call(self, word: Token) -> n.Call:
        name = self.quoted_name("template clause")
        pipeline = None
        if self.skip_space().kind != "close":
            pipeline = self.pipeline("template clause")
        self.close("template clause")
        return n.Call(word.at, name, pipeline)

    # Pipelines

    def pipeline(self, context: str, *, declares: int = 1) -> n.Pipeline:
        start = self.skip_space()
        names, assign = self.declaration(declares)
        commands: list[n.Command] = []
        while True:
            token = self.skip_space()
            commands.append(self.command(context))
            after = self.skip_space()
            if after.kind == "op" and after.text == "|":
                self.at += 1
                if self.skip_space().kind == "close":
                    raise self.bad(self.peek(), f"missing value for {context}")
                continue
            break
        for command in commands[1:]:
            if isinstance(command.words[0], n.Constant | n.Dot):
                raise bad(self.name, self.source, command.at, "non executable command in pipeline", "a function or method takes the value")
        if assign:
            for name in names:
                self.known(start, name)
        else:
            self.variables.extend(names)
        if not commands:
            raise self.bad(token, f"missing value for {context}")
        return n.Pipeline(start.at, tuple(commands), names, assign)

    def declaration(self, most: int) -> tuple[tuple[str, ...], bool]:
        """Variables before `:=` or `=`; nothing is consumed where there are none."""
        back, names = self.at, []
        while self.skip_space().kind == "variable":
            token = self.next()
            names.append(token.text)
            mark = self.skip_space()
            if mark.kind == "op" and mark.text in (":=", "="):
                self.at += 1
                if len(names) > most:
                    raise self.bad(token, "too many declarations")
                return tuple(names), mark.text == "="
            if mark.kind == "op" and mark.text == "," and len(names) < 2 and most == 2:
                self.at += 1
                continue
            break
        self.at = back
        return (), False

    def known(self, token: Token, name: str) -> None:
        if name not in self.variables:
            raise self.bad(token, f'undefined variable "{name}"')

    def command(self, context: str) -> n.Command:
        start = self.skip_space()
        words: list[n.Operand] = []
        while True:
            self.skip_space()
            operand = self.operand()
            if operand is None:
                break
            words.append(operand)
            after = self.peek()
            if after.kind in ("space",):
                continue
            if after.kind in ("close", "end") or (after.kind == "op" and after.text in "|)"):
                break
            raise self.bad(after, f"unexpected {after.text!r} in operand", "a space separates arguments")
        if not words:
            if start.kind == "close":
                raise self.bad(start, f"missing value for {context}")
            raise self.bad(start, f"unexpected {start.text!r} in {context}")
        return n.Command(start.at, tuple(words))

    def operand(self) -> n.Operand | None:
        token = self.peek()
        base = self.term(token)
        if base is None:
            return None
        names = []
        while self.peek().kind == "field":
            names.append(self.next().text[1:])
        if not names:
            return base
        if isinstance(base, n.Constant):
            raise self.bad(token, f"unexpected . after term {token.text!r}")
        if isinstance(base, n.Chain):
            return n.Chain(token.at, base.base, (*base.names, *names))
        return n.Chain(token.at, base, tuple(names))

    def term(self, token: Token) -> n.Operand | None:
        if token.kind == "field":
            self.at += 1
            return n.Chain(token.at, n.Dot(token.at), (token.text[1:],))
        if token.kind == "variable":
            self.at += 1
            self.known(token, token.text)
            return n.Variable(token.at, token.text)
        if token.kind == "name":
            return self.word(token)
        if token.kind in ("number", "char", "string"):
            self.at += 1
            return n.Constant(token.at, self.constant(token))
        if token.kind == "op" and token.text == ".":
            self.at += 1
            return n.Dot(token.at)
        if token.kind == "op" and token.text == "(":
            self.at += 1
            self.deeper(token)
            pipeline = self.pipeline("parenthesized pipeline", declares=0)
            closing = self.skip_space()
            if closing.kind != "op" or closing.text != ")":
                raise self.bad(closing, f"unexpected {closing.text!r} in parenthesized pipeline")
            self.at += 1
            self.depth -= 1
            return pipeline
        return None

    def word(self, token: Token) -> n.Operand:
        self.at += 1
        constants = {"nil": None, "true": True, "false": False}
        if token.text in constants:
            return n.Constant(token.at, constants[token.text])
        if token.text not in self.functions:
            raise self.bad(token, f'function "{token.text}" not defined')
        return n.Function(token.at, token.text)

    def constant(self, token: Token) -> object:
        try:
            if token.kind == "string":
                return unquote(token.text)
            return char(token.text) if token.kind == "char" else number(token.text)
        except ValueError as error:
            raise self.bad(token, str(error)) from None
