"""Strict YAML: a file becomes a frozen dataclass, and whatever does not fit is pointed at.

Each room declares its part of a configuration as dataclasses; `load` and `parse` fill them by their type
annotations. An unknown key, a wrong type or a value that a converter refuses raises `BadInput` with
`file:line:column: key.path` and what was expected. A field may carry, in its `metadata`:

- `key`: the name in the file, where it is not a Python identifier or differs (`from`);
- `convert`: a callable from the scalar's text to the value, which raises `BadInput` for a bad one (`parse_duration`);
- `secret`: True keeps the value out of every print (`shown`).

A dataclass may define `UNSUPPORTED: ClassVar[dict[str, str]]`, keys that are known and refused with a reason, and
`__post_init__`, whose `BadInput` is given the position of the mapping. Aliases, anchors and merge keys (`<<: *base`)
work; duplicate keys and several documents do not. Not here: where settings come from besides files (`settings.py`).
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

import yaml

from vedette.errors import BadInput

T = TypeVar("T")

_MAX_BYTES = 16 << 20
_MAX_NODES = 2_000_000
_MAX_DEPTH = 100
# A line that can open many blocks at once or lies deep in them: without one, and with few brackets, nothing nests deeply.
_DEEP_BLOCK = re.compile(r"(?:\A|[\n\r\x85\u2028\u2029])[ ?:-]{50}")
_NULL, _BOOL, _INT, _FLOAT, _STR, _MERGE = (f"tag:yaml.org,2002:{t}" for t in ("null", "bool", "int", "float", "str", "merge"))
_GO_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_BINARY = "tag:yaml.org,2002:binary"
_TRUE, _FALSE = frozenset(("true", "yes", "on")), frozenset(("false", "no", "off"))


def option(
    default: Any = dataclasses.MISSING,
    *,
    factory: Callable[[], Any] | Any = dataclasses.MISSING,
    key: str | None = None,
    convert: Callable[[str], Any] | None = None,
    secret: bool = False,
) -> Any:
    """A dataclass field with this module's metadata; required where it has neither default nor factory."""
    metadata: dict[str, Any] = {"secret": secret}
    if key is not None:
        metadata["key"] = key
    if convert is not None:
        metadata["convert"] = convert
    if factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def load(path: Path, shape: type[T]) -> T:
    """Read a file into `shape`. Raises `BadInput` for a file that cannot be read, too."""
    return parse(read(path), shape, name=str(path))


def read(path: Path) -> bytes:
    """A file's bytes, one more than is allowed at the most. Raises `BadInput` for one that cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror}", where=str(path)) from None


def parse(
    text: str | bytes, shape: type[T], *, name: str = "<text>", on_more: Callable[[str], None] | None = None, lenient: bool = False
) -> T:
    """Read YAML (of which JSON is a part) into `shape`; an empty document is an empty mapping.

    `on_more` as in `compose`; `lenient` passes over unknown keys.
    """
    root = compose(text, name=name, on_more=on_more)
    if root is None:
        root = yaml.MappingNode("tag:yaml.org,2002:map", [], yaml.Mark(name, 0, 0, 0, None, 0), None)
    return typing.cast(T, _Decoder(name, lenient=lenient).value(root, shape, (), None))


def from_text(text: str, shape: Any, *, convert: Callable[[str], Any] | None = None, where: str) -> Any:
    """A single value (or a YAML flow list or mapping) given as text, from an environment variable say."""
    if shape is str and convert is None:
        return text
    node = compose(text, name=where)
    if node is None or (convert is not None and isinstance(node, yaml.ScalarNode)):
        node = yaml.ScalarNode("tag:yaml.org,2002:str", text, yaml.Mark(where, 0, 0, 0, None, 0))
    try:
        return _Decoder(where).value(node, shape, (), convert)
    except BadInput as error:
        raise BadInput(error.problem, where=where, hint=error.hint) from None


def compose(text: str | bytes, *, name: str = "<text>", on_more: Callable[[str], None] | None = None) -> yaml.Node | None:
    """The document's node tree with positions, checked for size; None for an empty document.

    A second document is an error, unless there is `on_more`: it is told where that starts, and it is left unread.
    """
    if isinstance(text, bytes):
        text = _decoded(text, name)
    try:
        _check_depth(text, name)
        root = yaml.compose(text, Loader=_LOADER) if on_more is None else _first(text, name, on_more)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise BadInput(error.problem or "not valid YAML", where=where, hint=error.context or "") from None
    except yaml.YAMLError as error:
        raise BadInput(f"not valid YAML: {error}", where=name) from None
    if root is not None:
        nodes, depth = _expanded(root)
        if nodes > _MAX_NODES:
            raise BadInput(f"more than {_MAX_NODES} nodes once aliases are expanded", where=name)
        if depth > _MAX_DEPTH:
            raise BadInput(f"nested more than {_MAX_DEPTH} levels deep once aliases are expanded", where=name)
    return root


def _check_depth(text: str, name: str) -> None:
    """Refuse what nests too deeply before the tree is made: libyaml's composer recurses in C, and would end the process."""
    if text.count("[") + text.count("{") <= _MAX_DEPTH and _DEEP_BLOCK.search(text) is None:
        return
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_DEPTH:
                mark = event.start_mark
                assert mark is not None, "events that are read have positions"
                raise BadInput(f"nested more than {_MAX_DEPTH} levels deep", where=f"{name}:{mark.line + 1}:{mark.column + 1}")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


@functools.cache
def _hints(shape: type) -> Mapping[str, Any]:
    """The types of a class' fields; to work them out takes longer than to fill them, and files have thousands of equal parts."""
    return typing.get_type_hints(shape, include_extras=True)


def _first(text: str, name: str, on_more: Callable[[str], None]) -> yaml.Node | None:
    loader = _LOADER(text)
    try:
        root: yaml.Node | None = loader.get_node() if loader.check_node() else None
        if loader.check_node():
            mark = loader.get_node().start_mark
            on_more(f"{name}:{mark.line + 1}:{mark.column + 1}")
    finally:
        loader.dispose()
    return root


def _decoded(data: bytes, name: str) -> str:
    if len(data) > _MAX_BYTES:
        raise BadInput(f"larger than {_MAX_BYTES >> 20} MiB", where=name)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadInput("not UTF-8 text", where=f"{name}:{line}", hint=f"byte {error.start}") from None


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _expanded(root: yaml.Node) -> tuple[int, int]:
    """How many nodes the tree has and how deep it is, aliases expanded: the billion-laughs guard.

    A node that contains itself has more than the most nodes. Every node is visited once, below those that open it in the
    text, so this recurses no deeper than the text nests.
    """
    known: dict[int, tuple[int, int]] = {}

    def measure(node: yaml.Node) -> tuple[int, int]:
        if id(node) in known:
            return known[id(node)]
        known[id(node)] = (_MAX_NODES + 1, 1)  # what a node that contains itself sees
        below: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            below = node.value
        elif isinstance(node, yaml.MappingNode):
            below = [part for pair in node.value for part in pair]
        measured = [measure(part) for part in below]
        nodes = 1 + sum(n for n, _ in measured)
        known[id(node)] = min(nodes, _MAX_NODES + 1), 1 + max((d for _, d in measured), default=0)
        return known[id(node)]

    return measure(root)


def plain(node: yaml.Node) -> Any:
    """A node as plain Python: dict, list, str, int, float, bool, None."""
    if isinstance(node, yaml.MappingNode):
        return {str(plain(k)): plain(v) for k, v in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [plain(n) for n in node.value]
    assert isinstance(node, yaml.ScalarNode)
    text = str(node.value)
    if node.tag == _NULL:
        return None
    if node.tag == _BOOL:
        return text.lower() in _TRUE
    try:
        if node.tag == _INT:
            return int(text.replace("_", ""), 0) if not text.lstrip("+-").isdigit() else int(text)
        if node.tag == _FLOAT:
            return float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan").replace(".Inf", "inf").replace(".NaN", "nan"))
    except ValueError:
        return text
    return text


class _Decoder:
    def __init__(self, name: str, *, lenient: bool = False) -> None:
        self.name = name
        self.lenient = lenient

    def where(self, node: yaml.Node, path: Sequence[str | int]) -> str:
        dotted = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")
        mark = node.start_mark
        return f"{self.name}:{mark.line + 1}:{mark.column + 1}" + (f": {dotted}" if dotted else "")

    def bad(self, node: yaml.Node, path: Sequence[str | int], problem: str, hint: str = "") -> BadInput:
        return BadInput(problem, where=self.where(node, path), hint=hint)

    def value(self, node: yaml.Node, shape: Any, path: tuple[str | int, ...], convert: Callable[[str], Any] | None) -> Any:
        origin, args = typing.get_origin(shape), typing.get_args(shape)
        if origin is typing.Annotated:
            found = next((a for a in args[1:] if callable(a)), convert)
            return self.value(node, args[0], path, found)
        if origin in (Union, types.UnionType):
            inner = [a for a in args if a is not type(None)]
            if node.tag == _NULL and len(inner) < len(args):
                return None
            assert len(inner) == 1 or convert, f"{shape}: a union of several shapes needs a converter"
            return self.value(node, inner[0], path, convert)
        if origin in (list, tuple, Sequence):
            return self.sequence(node, origin, args[0], path, convert)
        if origin in (dict, Mapping):
            return self.mapping(node, args[1], path, convert)
        if shape is Any:
            return plain(node)
        if dataclasses.is_dataclass(shape) and isinstance(shape, type) and convert is None:
            return self.record(node, shape, path)
        return self.scalar(node, shape, path, convert)

    def sequence(self, node: yaml.Node, origin: Any, item: Any, path: tuple[str | int, ...], convert: Callable[[str], Any] | None) -> Any:
        if node.tag == _NULL:
            return () if origin is tuple else []
        if not isinstance(node, yaml.SequenceNode):
            raise self.bad(node, path, f"{_kind(node)} where a list is expected")
        if convert is not None:  # it makes a whole item of the list, whatever shape that has
            items = [self.scalar(n, item, (*path, i), convert) for i, n in enumerate(node.value)]
        else:
            items = [self.value(n, item, (*path, i), None) for i, n in enumerate(node.value)]
        return tuple(items) if origin is tuple else items

    def mapping(self, node: yaml.Node, item: Any, path: tuple[str | int, ...], convert: Callable[[str], Any] | None) -> dict[str, Any]:
        if node.tag == _NULL:
            return {}
        return {k: self.value(v, item, (*path, k), convert) for k, v in self.pairs(node, path).items()}

    def pairs(self, node: yaml.Node, path: tuple[str | int, ...]) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            raise self.bad(node, path, f"{_kind(node)} where a mapping is expected")
        found: dict[str, yaml.Node] = {}
        merged: list[yaml.Node] = []
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _BINARY:
                raise self.bad(key, path, "a key must be plain text")
            if key.tag == _MERGE:
                merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
                continue
            if key.value in found:
                raise self.bad(key, (*path, key.value), "given twice")
            found[key.value] = value
        for other in merged:
            # What the mapping says itself wins over what it merges, an earlier merge over a later one.
            found = {**self.pairs(other, path), **found}
        return found

    def record(self, node: yaml.Node, shape: type, path: tuple[str | int, ...]) -> Any:
        pairs = {} if node.tag == _NULL else self.pairs(node, path)
        hints = _hints(shape)
        fields = {f.metadata.get("key", f.name): f for f in dataclasses.fields(shape) if f.init}
        refused: dict[str, str] = getattr(shape, "UNSUPPORTED", {})
        given: dict[str, Any] = {}
        for key, value in pairs.items():
            at = (*path, key)
            if key in refused:
                raise self.bad(self.key_node(node, key), at, "not supported", refused[key])
            if key not in fields and self.lenient:
                continue
            if key not in fields:
                near = difflib.get_close_matches(key, fields, n=1)
                hint = f"did you mean {near[0]}?" if near else "expected one of " + ", ".join(sorted(fields))
                raise self.bad(self.key_node(node, key), at, "unknown key", hint)
            field = fields[key]
            has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
            if value.tag == _NULL and has_default:
                continue  # `key:` with nothing behind it is the default, as in the peers' files
            given[field.name] = self.value(value, hints[field.name], at, field.metadata.get("convert"))
        for key, field in fields.items():
            if field.name not in given and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                raise self.bad(node, path, f"lacks the key {key}")
        try:
            return shape(**given)
        except BadInput as error:
            if error.where.startswith(self.name):
                raise
            key = error.where
            at_node = pairs.get(key, node)
            raise BadInput(error.problem, where=self.where(at_node, (*path, key) if key else path), hint=error.hint) from None

    @staticmethod
    def key_node(node: yaml.Node, key: str) -> yaml.Node:
        assert isinstance(node, yaml.MappingNode)
        # A key that came in by a merge has no place of its own here.
        found: yaml.Node = next((k for k, _ in node.value if k.value == key), node)
        return found

    def scalar(self, node: yaml.Node, shape: Any, path: tuple[str | int, ...], convert: Callable[[str], Any] | None) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            expected = "a single value" if convert else _expected(shape)
            raise self.bad(node, path, f"{_kind(node)} where {expected} is expected")
        if node.tag == _BINARY:
            raise self.bad(node, path, "binary data where text is expected")
        text = "" if node.tag == _NULL else str(node.value)
        if convert is not None:
            try:
                return convert(text)
            except BadInput as error:
                raise self.bad(node, path, str(error.problem), error.hint) from None
        if typing.get_origin(shape) is Literal:
            choices = typing.get_args(shape)
            if text not in choices:
                raise self.bad(node, path, f"{text!r} is not one of the choices", "expected one of " + ", ".join(map(str, choices)))
            return text
        if shape is str:
            return text
        if shape is bool:
            if node.tag == _BOOL or text.lower() in _TRUE | _FALSE:
                return text.lower() in _TRUE
        elif shape in (int, float):
            number = plain(node) if node.tag in (_INT, _FLOAT) else None
            if shape is float and node.tag == _STR and not node.style and _GO_FLOAT.fullmatch(text):
                number = float(text)  # `1e20` is text to YAML 1.1, and to PyYAML, but a number to all others
            if isinstance(number, shape) or (shape is float and isinstance(number, int)):
                return shape(number)
        elif isinstance(shape, type) and issubclass(shape, Path):
            return shape(text)
        else:
            raise AssertionError(f"{shape} has no decoder")
        raise self.bad(node, path, f"{text!r} where {_expected(shape)} is expected")


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    return "a list" if isinstance(node, yaml.SequenceNode) else f"{node.value!r}"


def _expected(shape: Any) -> str:
    named = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    return named.get(shape, "a single value")


_IN_URL = re.compile(r"(://[^/:@\s]*:)[^@/\s]+@")


def shown(node: yaml.Node | None, shape: Any) -> Any:
    """A file's content as plain data for printing, as it was written: what `shape` marks secret reads `<secret>`.

    Passwords inside URLs are hidden too. `node` has been decoded into `shape` before, so it fits.
    """
    origin, args = typing.get_origin(shape), typing.get_args(shape)
    if node is None or node.tag == _NULL:
        return None
    if origin is typing.Annotated:
        return shown(node, args[0])
    if origin in (Union, types.UnionType):
        return shown(node, next(a for a in args if a is not type(None)))
    if isinstance(node, yaml.SequenceNode):
        return [shown(n, args[0] if args else Any) for n in node.value]
    if isinstance(node, yaml.MappingNode):
        pairs = _Decoder("").pairs(node, ())
        if not (dataclasses.is_dataclass(shape) and isinstance(shape, type)):
            return {key: shown(value, args[-1] if args else Any) for key, value in pairs.items()}
        hints = _hints(shape)
        fields = {f.metadata.get("key", f.name): f for f in dataclasses.fields(shape)}
        return {k: "<secret>" if fields[k].metadata.get("secret") else shown(v, hints[fields[k].name]) for k, v in pairs.items()}
    value = plain(node)
    return _IN_URL.sub(r"\1<secret>@", value) if isinstance(value, str) else value
