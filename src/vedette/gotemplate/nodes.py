"""The tree of a parsed template. Every node knows its offset, so that an error at run time points too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Text:
    """Literal output."""

    at: int
    text: str


@dataclass(frozen=True, slots=True)
class Constant:
    """A number, string, boolean or nil."""

    at: int
    value: Any


@dataclass(frozen=True, slots=True)
class Dot:
    """The cursor, `.`."""

    at: int


@dataclass(frozen=True, slots=True)
class Variable:
    """`$x` or `$`."""

    at: int
    name: str


@dataclass(frozen=True, slots=True)
class Function:
    """A function's name where an operand may stand."""

    at: int
    name: str


@dataclass(frozen=True, slots=True)
class Chain:
    """`.A.B`, `$x.A.B` or `(pipeline).A.B`: names looked up one after another from `base`."""

    at: int
    base: Operand
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """An operand with arguments. In a pipeline the previous command's value is its last argument."""

    at: int
    words: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Commands joined by `|`, the value set into (`assign`: into existing) variables."""

    at: int
    commands: tuple[Command, ...]
    variables: tuple[str, ...] = ()
    assign: bool = False


@dataclass(frozen=True, slots=True)
class Action:
    """`{{ pipeline }}`: prints, unless it sets a variable."""

    at: int
    pipeline: Pipeline


@dataclass(frozen=True, slots=True)
class Branch:
    """`if`, `with` or `range` (`kind`), with its `else` (empty where there is none)."""

    at: int
    kind: str
    pipeline: Pipeline
    body: Block
    otherwise: Block


@dataclass(frozen=True, slots=True)
class Jump:
    """`break` or `continue`."""

    at: int
    kind: str


@dataclass(frozen=True, slots=True)
class Call:
    """`{{ template "name" pipeline }}`."""

    at: int
    name: str
    pipeline: Pipeline | None


Operand: TypeAlias = Constant | Dot | Variable | Function | Chain | Pipeline
Node: TypeAlias = Text | Action | Branch | Jump | Call
Block: TypeAlias = tuple[Node, ...]
