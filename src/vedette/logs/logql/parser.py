"""LogQL read: a recursive descent over its words, which says at line and column what it met and what it expected.

Selectors and stages are read in `pipelines.py`; here are the metric queries around them. Not here: running.
"""

from __future__ import annotations

from dataclasses import replace

from vedette.errors import BadInput
from vedette.logs.logql.nodes import (
    AGGREGATIONS,
    COMPARISONS,
    GROUPED_OPS,
    RANGE_OPS,
    RANKED,
    SETS,
    UNGROUPED,
    UNWRAPPED_OPS,
    Aggregated,
    Binary,
    Grouping,
    Metric,
    Number,
    Pipeline,
    Query,
    Ranged,
    Replaced,
    Unwrap,
    Vector,
    leaves,
)
from vedette.logs.logql.pipelines import Pipelines
from vedette.logs.logql.stages import check
from vedette.model.matchers import compile_regex

_RANKS = (("or",), ("and", "unless"), COMPARISONS, ("+", "-"), ("*", "/", "%"), ("^",))
_RANGED = (*RANGE_OPS, *UNWRAPPED_OPS)
_DEEPEST = 30
_MOST_K = 1_000


def parse(text: str) -> Query:
    """What a query asks for. Raises `BadInput` with line and column."""
    reader = _Reader(text)
    found = reader.query()
    if reader.token.kind != "end":
        raise reader.unexpected()
    if isinstance(found, Pipeline):
        check(found.stages)
    for node in leaves(found):
        if isinstance(node, Ranged):
            check(node.pipeline.stages)
    return found


def of_selector(text: str) -> Pipeline:
    """A query for lines. Raises `BadInput` for one that counts them, too."""
    found = parse(text)
    if not isinstance(found, Pipeline):
        raise BadInput("only a log query is taken here", hint='expected a stream selector, such as {service_name="shop"}')
    return found


class _Reader(Pipelines):
    """Metric queries: what binds least is read first."""

    depth = 0

    def query(self) -> Query:
        """A whole query, lines or a metric."""
        if self.token.text == "{":
            return self.pipeline()
        if self.token.text == "(":
            # Parentheses around a query for lines say nothing.
            ahead = self.at
            while self.words[ahead].text == "(":
                ahead += 1
            if self.words[ahead].text == "{":
                return self._enclosed()
        return self.binary(0)

    def _enclosed(self) -> Pipeline:
        depth = 0
        while self.taken("("):
            depth += 1
        found = self.pipeline()
        for _ in range(depth):
            self.expect(")")
        return self.stages(found)

    def binary(self, rank: int) -> Metric:
        """Operations of this rank and the ones that bind more."""
        if rank == len(_RANKS):
            return self.operand()
        left = self.binary(rank + 1)
        while self.token.text in _RANKS[rank] and self.token.kind in ("sign", "name"):
            op = self.take().text
            bare = self.modifiers(Binary(op, left, left))
            # A power binds to the right, and no more than the rank above may stand to the right of anything else.
            right = self.deeper(rank if op == "^" else rank + 1)
            if op in SETS and (isinstance(left, Number) or isinstance(right, Number)):
                raise self.error(f"unexpected literal for logical/set binary operation ({op})")
            left = replace(bare, right=right)
        return left

    def deeper(self, rank: int) -> Metric:
        """What stands one level deeper."""
        self.depth += 1
        if self.depth > _DEEPEST:
            raise self.error(f"nested more than {_DEEPEST} deep")
        found = self.binary(rank)
        self.depth -= 1
        return found

    def modifiers(self, node: Binary) -> Binary:
        """`bool`, `on` or `ignoring`, `group_left` or `group_right`."""
        if self.named("bool"):
            if node.op not in COMPARISONS:
                raise self.error("bool is for comparisons only")
            node = replace(node, as_number=True)
        for word in ("on", "ignoring"):
            if self.named(word):
                node = replace(node, on=word == "on", labels=self.names())
                for many in ("left", "right"):
                    if self.named(f"group_{many}"):
                        node = replace(node, many=many, included=self.names() if self.token.text == "(" else ())
                break
        if node.many and node.op in SETS:
            raise self.error(f"no grouping allowed for {node.op!r} operation")
        return node

    def operand(self) -> Metric:
        """A number, a call, or something in parentheses."""
        word = self.token
        if word.text == "(":
            self.take()
            found = self.deeper(0)
            self.expect(")")
            return found
        if word.text in ("+", "-") and word.kind == "sign":
            self.take()
            sign = -1.0 if word.text == "-" else 1.0
            return Number(sign * self.number())
        if word.kind == "number":
            return Number(self.take().value)
        if word.kind == "name" and word.text in _RANGED:
            return self.ranged()
        if word.kind == "name" and word.text in AGGREGATIONS:
            return self.aggregated()
        if self.named("vector"):
            self.expect("(")
            value = self.number()
            self.expect(")")
            return Vector(value)
        if self.named("label_replace"):
            return self.replaced()
        raise self.unexpected("a log query, a metric query or a number")

    def aggregated(self) -> Aggregated:
        """An aggregation, whose grouping may stand before or after."""
        op = self.take().text
        grouping = self.grouping()
        self.expect("(")
        k = 0
        if op in RANKED:
            at = self.token
            value = self.number()
            if value != int(value) or not 0 < value <= _MOST_K:
                raise self.error(f"invalid parameter {at.text} for {op}: expected 1 to {_MOST_K}", at)
            k = int(value)
            self.expect(",")
        inner = self.deeper(0)
        self.expect(")")
        grouping = grouping or self.grouping()
        if grouping is not None and op in UNGROUPED:
            raise self.error(f"grouping not allowed for {op} aggregation")
        return Aggregated(op, inner, grouping or Grouping(()), k)

    def replaced(self) -> Replaced:
        """`label_replace(metric, "to", "$1", "from", "(.*)")`."""
        self.expect("(")
        inner = self.deeper(0)
        texts = []
        for _ in range(4):
            self.expect(",")
            texts.append(self.string())
        self.expect(")")
        compile_regex(texts[3], where="label_replace")
        return Replaced(inner, texts[0], texts[1], texts[2], texts[3])

    def grouping(self) -> Grouping | None:
        """`by (…)` or `without (…)`, None where there is neither."""
        for word in ("by", "without"):
            if self.named(word):
                return Grouping(self.names(), word == "without")
        return None

    def ranged(self) -> Ranged:
        """A function of a range."""
        name = self.take()
        self.expect("(")
        parameter = 0.0
        if name.text == "quantile_over_time":
            if self.token.kind != "number" and self.token.text not in ("+", "-"):
                raise self.error(f"parameter required for operation {name.text}")
            parameter = self.signed()
            self.expect(",")
        depth = 0
        while self.taken("("):
            depth += 1
        found = self.range_of(Ranged(name.text, self.selector(), 0, parameter=parameter))
        for _ in range(depth):
            self.expect(")")
            found = self.range_of(found)
        if found.range_ns == 0:
            raise self.unexpected("RANGE, such as [5m]")
        self.expect(")")
        found = replace(found, grouping=self.grouping())
        self._sound(found, name.at)
        return found

    def range_of(self, found: Ranged) -> Ranged:
        """Stages, an unwrap and the range with its offset, in any order in which LogQL has them."""
        while True:
            if self.token.text == "[" and not found.range_ns:
                found = replace(found, range_ns=self.span())
            elif self.token.text == "offset" and found.range_ns:
                self.take()
                found = replace(found, offset_ns=self.duration())
            elif self.token.text == "|" and self.words[self.at + 1].text == "unwrap" and found.unwrap is None:
                found = replace(found, unwrap=self.unwrap())
            elif self.starts_stage() and found.unwrap is None:
                found = replace(found, pipeline=self.stages(found.pipeline))
            else:
                return found

    def unwrap(self) -> Unwrap:
        """`| unwrap label`, perhaps converted, and the conditions behind it."""
        self.take()
        self.take()
        label = self.name()
        conversion = ""
        if self.taken("("):
            if label not in ("duration", "duration_seconds", "bytes"):
                raise self.error(f"unknown conversion {label!r}", hint="expected duration, duration_seconds or bytes")
            conversion, label = label, self.name()
            self.expect(")")
        after = []
        while self.token.text == "|":
            self.take()
            after.append(self.label_filter())
        return Unwrap(label, conversion, tuple(after))

    def _sound(self, found: Ranged, at: int) -> None:
        op = found.op
        if found.unwrap is None and op in (*UNWRAPPED_OPS, "rate_counter"):
            raise self.error(f"invalid aggregation {op} without unwrap", at=at)
        if found.unwrap is not None and op in ("count_over_time", "bytes_rate", "bytes_over_time", "absent_over_time"):
            raise self.error(f"invalid aggregation {op} with unwrap", at=at)
        if found.grouping is not None and op not in GROUPED_OPS:
            raise self.error(f"grouping not allowed for {op} aggregation", at=at)
