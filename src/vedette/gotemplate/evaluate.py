"""Running a template: every step and every character counted, so that it always ends, and soon.

Not here: what the functions do. A function that needs to wait (a query) raises an exception of its own, which
passes through unchanged; the caller gets the answer and renders again.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vedette.errors import BadInput
from vedette.gotemplate import nodes as n
from vedette.gotemplate.functions import BUILTINS, Function
from vedette.gotemplate.lexer import bad
from vedette.gotemplate.parser import Definition, Template
from vedette.gotemplate.printf import show
from vedette.gotemplate.values import MAX_TEXT, NO_VALUE, Map, NoValue, Slice, Struct, truth, type_name


@dataclass(frozen=True, slots=True)
class Limits:
    """What one rendering may use: `steps` (commands and loop turns), `output` characters, `depth` of calls."""

    steps: int = 200_000
    output: int = 1 << 20
    depth: int = 100


def render(
    template: Template,
    data: Any,
    *,
    variables: Mapping[str, Any] | None = None,
    functions: Mapping[str, Function] | None = None,
    limits: Limits | None = None,
    escape: Callable[[str, str], str] | None = None,
) -> str:
    """The template's text over `data`, with the values of the variables and functions that `parse` was told of.

    `escape` turns what an action writes into what stands in the output, given the text just before it (`html.escaped`).
    Raises `BadInput` with the position for a run-time error, an exceeded limit included.
    """
    run = _Run(template, {**BUILTINS, **(functions or {})}, limits or Limits(), escape)
    frame = {"$": data, **(variables or {})}
    try:
        run.block(template.main.body, data, list(frame.items()), template.main)
    except RecursionError:
        raise BadInput("templates nest too deeply", where=template.main.name) from None
    except ValueError as error:  # from printing a value that is too long
        raise BadInput(str(error), where=template.main.name) from None
    return "".join(run.out)


class _Jump(Exception):
    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


_CONTEXT_PARTS, _CONTEXT_CHARS = 16, 4096

_Scope = list[tuple[str, Any]]
_NOTHING = object()


class _Run:
    def __init__(
        self, template: Template, functions: Mapping[str, Function], limits: Limits, escape: Callable[[str, str], str] | None
    ) -> None:
        self.template, self.functions, self.limits, self.escape = template, functions, limits, escape
        self.out: list[str] = []
        self.written = self.steps = self.depth = 0
        self.arities: dict[str, tuple[int, float]] = {}

    def bad(self, node: Any, within: Definition, problem: str) -> BadInput:
        return bad(within.name, within.source, node.at, problem)

    def step(self, node: Any, within: Definition, cost: int = 1) -> None:
        self.steps += cost
        if self.steps > self.limits.steps:
            raise self.bad(node, within, f"took more than {self.limits.steps} steps")

    def write(self, text: str, node: Any, within: Definition) -> None:
        self.written += len(text)
        if self.written > self.limits.output:
            raise self.bad(node, within, f"wrote more than {self.limits.output} characters")
        self.out.append(text)

    def before(self) -> str:
        """The end of what was written so far: enough to see the HTML tag that is open."""
        return "".join(self.out[-_CONTEXT_PARTS:])[-_CONTEXT_CHARS:]

    # Nodes

    def block(self, block: n.Block, dot: Any, scope: _Scope, within: Definition) -> None:
        for node in block:
            self.step(node, within)
            if isinstance(node, n.Text):
                self.write(node.text, node, within)
            elif isinstance(node, n.Action):
                value = self.pipeline(node.pipeline, dot, scope, within)
                if not node.pipeline.variables:
                    text = show(value)
                    self.write(text if self.escape is None else self.escape(text, self.before()), node, within)
            elif isinstance(node, n.Branch):
                self.branch(node, dot, scope, within)
            elif isinstance(node, n.Jump):
                raise _Jump(node.kind)
            else:
                self.call(node, dot, scope, within)

    def branch(self, node: n.Branch, dot: Any, scope: _Scope, within: Definition) -> None:
        height = len(scope)
        try:
            if node.kind == "range":
                self.range(node, dot, scope, within)
                return
            value = self.pipeline(node.pipeline, dot, scope, within)
            if truth(value):
                self.block(node.body, value if node.kind == "with" else dot, scope, within)
            else:
                self.block(node.otherwise, dot, scope, within)
        finally:
            del scope[height:]

    def range(self, node: n.Branch, dot: Any, scope: _Scope, within: Definition) -> None:
        height = len(scope)
        value = self.pipeline(node.pipeline, dot, scope, within, bind=False)
        turned = False
        for key, item in self.items(value, node, within):
            self.step(node, within)
            turned = True
            names = node.pipeline.variables
            bound = dict(zip(names, (key, item) if len(names) == 2 else (item,), strict=False))
            if node.pipeline.assign:
                for name, each in bound.items():
                    self.assign(scope, name, each)
            else:
                scope.extend(bound.items())
            try:
                self.block(node.body, item, scope, within)
            except _Jump as jump:
                if jump.kind == "break":
                    break
            finally:
                del scope[height:]
        if not turned:
            self.block(node.otherwise, dot, scope, within)

    def items(self, value: Any, node: n.Branch, within: Definition) -> Iterable[tuple[Any, Any]]:
        if isinstance(value, dict):
            return sorted(value.items())
        if isinstance(value, list | tuple):
            return enumerate(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return ((i, i) for i in range(value))
        if value is None or isinstance(value, NoValue):
            return ()
        raise self.bad(node, within, f"range can't iterate over {show(value)[:80]}")

    def call(self, node: n.Call, dot: Any, scope: _Scope, within: Definition) -> None:
        value = self.pipeline(node.pipeline, dot, scope, within) if node.pipeline is not None else None
        self.named(node.name, value, node, within)

    def named(self, name: str, value: Any, node: Any, within: Definition) -> None:
        found = self.template.definitions.get(name)
        if found is None:
            raise self.bad(node, within, f'template "{name}" not defined')
        if self.depth >= self.limits.depth:
            raise self.bad(node, within, f"templates call one another more than {self.limits.depth} deep")
        self.depth += 1
        self.block(found.body, value, [("$", value)], found)
        self.depth -= 1

    # Values

    @staticmethod
    def assign(scope: _Scope, name: str, value: Any) -> None:
        for i in range(len(scope) - 1, -1, -1):
            if scope[i][0] == name:
                scope[i] = (name, value)
                return
        raise AssertionError(f"{name}: the parser lets no undefined variable pass")

    def pipeline(self, node: n.Pipeline, dot: Any, scope: _Scope, within: Definition, *, bind: bool = True) -> Any:
        value: Any = _NOTHING
        for command in node.commands:
            value = self.command(command, dot, scope, within, value)
        if bind:
            for name in node.variables:
                if node.assign:
                    self.assign(scope, name, value)
                else:
                    scope.append((name, value))
        return value

    def command(self, node: n.Command, dot: Any, scope: _Scope, within: Definition, final: Any) -> Any:
        self.step(node, within)
        first, rest = node.words[0], node.words[1:]
        if isinstance(first, n.Function):
            return self.function(first, rest, dot, scope, within, final)
        arguments = [self.operand(w, dot, scope, within) for w in rest]
        if final is not _NOTHING:
            arguments.append(final)
        if isinstance(first, n.Chain):
            return self.chain(first, dot, scope, within, arguments)
        if arguments:
            raise self.bad(node, within, "can't give argument to non-function")
        if isinstance(first, n.Constant) and first.value is None:
            raise self.bad(node, within, "nil is not a command")
        return self.operand(first, dot, scope, within)

    def operand(self, node: n.Operand, dot: Any, scope: _Scope, within: Definition) -> Any:
        if isinstance(node, n.Constant):
            return node.value
        if isinstance(node, n.Dot):
            return dot
        if isinstance(node, n.Variable):
            return next(value for name, value in reversed(scope) if name == node.name)
        if isinstance(node, n.Chain):
            return self.chain(node, dot, scope, within, [])
        if isinstance(node, n.Function):
            return self.function(node, (), dot, scope, within, _NOTHING)
        return self.pipeline(node, dot, scope, within)

    def function(self, node: n.Function, words: tuple[n.Operand, ...], dot: Any, scope: _Scope, within: Definition, final: Any) -> Any:
        if node.name in ("and", "or"):
            return self.shortcut(node, words, dot, scope, within, final)
        arguments = [self.operand(w, dot, scope, within) for w in words]
        if final is not _NOTHING:
            arguments.append(final)
        if node.name == "tmpl" and "tmpl" in self.functions:
            return self.inline(node, arguments, within)
        return self.apply(self.functions[node.name], arguments, node.name, node, within)

    def inline(self, node: n.Function, arguments: list[Any], within: Definition) -> str:
        """`tmpl name data`: a template's text as a value."""
        if len(arguments) != 2 or not isinstance(arguments[0], str):
            raise self.bad(node, within, "error calling tmpl: wants a template's name and its data")
        outer, self.out = self.out, []
        self.named(arguments[0], arguments[1], node, within)
        text, self.out = "".join(self.out), outer
        return text

    def shortcut(self, node: n.Function, words: tuple[n.Operand, ...], dot: Any, scope: _Scope, within: Definition, final: Any) -> Any:
        value: Any = _NOTHING
        for word in words:
            value = self.operand(word, dot, scope, within)
            if truth(value) == (node.name == "or"):
                return value
        value = final if final is not _NOTHING else value
        if value is _NOTHING:
            raise self.bad(node, within, f"wrong number of args for {node.name}: want at least 1 got 0")
        return value

    def apply(self, function: Function, arguments: list[Any], name: str, node: Any, within: Definition) -> Any:
        if name not in self.arities:
            self.arities[name] = _arity(function)
        least, most = self.arities[name]
        if not least <= len(arguments) <= most:
            wanted = str(least) if least == most else f"at least {least}"
            raise self.bad(node, within, f"wrong number of args for {name}: want {wanted} got {len(arguments)}")
        # A long text costs as many steps as it takes time, or a template of few steps could run for minutes.
        self.step(node, within, sum(len(a) for a in arguments if isinstance(a, str)) >> 4)
        try:
            value = function(*arguments)
        except (BadInput, ValueError) as error:
            raise self.bad(node, within, f"error calling {name}: {error}") from None
        size = len(value) if isinstance(value, str | list | tuple | dict) else 0
        if size > MAX_TEXT:
            raise self.bad(node, within, f"{name} gave more than {MAX_TEXT} characters or items")
        self.step(node, within, size >> 4)
        return value

    def chain(self, node: n.Chain, dot: Any, scope: _Scope, within: Definition, arguments: list[Any]) -> Any:
        value = self.operand(node.base, dot, scope, within)
        for i, name in enumerate(node.names):
            self.step(node, within)
            value = self.field(value, name, arguments if i == len(node.names) - 1 else [], node, within)
        return value

    def field(self, value: Any, name: str, arguments: list[Any], node: Any, within: Definition) -> Any:
        methods: Mapping[str, Function] = value.methods if isinstance(value, Map | Slice | Struct) else {}
        if name in methods:
            return self.apply(methods[name], arguments, name, node, within)
        if isinstance(value, Struct) and name in value.fields:
            found = value.fields[name]
        elif isinstance(value, dict):
            found = dict.get(value, name, value.zero if isinstance(value, Map) else NO_VALUE)
        elif value is None or isinstance(value, NoValue):
            raise self.bad(node, within, f"nil data; no entry for key {name!r}")
        else:
            raise self.bad(node, within, f"can't evaluate field {name} in type {type_name(value)}")
        if arguments:
            raise self.bad(node, within, f"{name} has arguments but is not a method")
        return found


def _arity(function: Function) -> tuple[int, float]:
    least, most = 0, 0.0
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            most = float("inf")
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            most += 1
            least += parameter.default is parameter.empty
    return least, most
