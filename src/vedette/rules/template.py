"""Templates in rules' labels and annotations: Prometheus' variables and functions over Go templates.

A template is parsed when its file is loaded. Rendering is synchronous, queries are not: a rendering that meets a query
without an answer stops, the answer is awaited, and it renders again. Not here: Alertmanager's templates.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus, urlsplit

from vedette.errors import BadInput, LimitExceeded
from vedette.gotemplate.evaluate import render
from vedette.gotemplate.functions import Function
from vedette.gotemplate.parser import Template, parse
from vedette.gotemplate.shared import PROMETHEUS, to_float
from vedette.gotemplate.times import format_duration
from vedette.gotemplate.values import Map, Struct, type_name
from vedette.model.durations import parse_duration
from vedette.model.labels import Labels

MAX_QUERIES = 50
"""How many different queries one template may make."""

VARIABLES = ("$labels", "$externalLabels", "$externalURL", "$value")

Answers = list[tuple[Labels, float | str]]
"""Elements with their values; a native histogram's is its text."""

Query = Callable[[str], Awaitable[Answers]]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"wrong type for value; expected string; got {type_name(value)}")
    return value


def graph_link(expr: str, *, table: bool) -> str:
    """The path of the page that shows an expression, as Prometheus links to it."""
    return f"/graph?g0.expr={quote_plus(expr, safe='-_.~')}&g0.tab={1 if table else 0}"


def _sample(labels: Labels, value: float | str) -> Struct:
    return Struct("template.sample", {"Labels": Map(dict(labels)), "Value": value})


def _first(samples: Any) -> Any:
    if not isinstance(samples, list | tuple) or not samples:
        raise ValueError("first() called on vector with no elements")
    return samples[0]


def _of(sample: Any) -> Struct:
    if not isinstance(sample, Struct) or sample.kind != "template.sample":
        raise ValueError(f"wrong type for value; expected a sample of a query; got {type_name(sample)}")
    return sample


def _sort_by_label(label: Any, samples: Any) -> list[Any]:
    if not isinstance(samples, list | tuple):
        raise ValueError(f"wrong type for value; expected a query's result; got {type_name(samples)}")
    return sorted(samples, key=lambda s: str(_of(s).fields["Labels"].get(_text(label), "")))


def _query(_expr: Any) -> Any:
    raise ValueError("queries have no answer here")


_PURE: dict[str, Function] = {
    **PROMETHEUS,
    "first": _first,
    "label": lambda label, sample: _of(sample).fields["Labels"].get(_text(label), ""),
    "value": lambda sample: _of(sample).fields["Value"],
    "strvalue": lambda sample: _of(sample).fields["Labels"].get("__value__", ""),
    "sortByLabel": _sort_by_label,
    "graphLink": lambda expr: graph_link(_text(expr), table=False),
    "tableLink": lambda expr: graph_link(_text(expr), table=True),
    "parseDuration": lambda text: parse_duration(_text(text)) / 1000,
    "toDuration": lambda seconds: format_duration(to_float(seconds)),
}

# `tmpl` belongs to the evaluator, which knows the templates; the entry makes its name known.
FUNCTIONS = frozenset((*_PURE, "query", "externalURL", "pathPrefix", "now"))
"""The names of what a template may call, beside templates by their names (`tmpl`)."""


def prepare(text: str, *, name: str) -> Template | str:
    """A template ready to expand; text without an action stays text. Raises `BadInput` with `name:line:column`."""
    if "{{" not in text:
        return text
    return parse(text, name=name, functions=FUNCTIONS | {"tmpl"}, variables=VARIABLES)


class _Unanswered(Exception):
    """A rendering met this query before its answer was there."""

    def __init__(self, expr: str) -> None:
        super().__init__(expr)
        self.expr = expr


@dataclass(slots=True)
class Expander:
    """Expands templates at one moment (`now_ms`). Answers to queries are shared by all expansions of the moment."""

    query: Query
    now_ms: int
    external_labels: Labels
    external_url: str
    answers: dict[str, Answers] = field(default_factory=dict)

    async def expand(self, template: Template | str, labels: Labels, value: float | str) -> str:
        """The text for one alert. Where the template fails, the error stands in its place, as in Prometheus."""
        if isinstance(template, str):
            return template
        outer = Map(dict(self.external_labels))
        inner = Map(dict(labels))
        fields = {"Labels": inner, "ExternalLabels": outer, "ExternalURL": self.external_url, "Value": value}
        data = Struct("template.AlertTemplateData", fields)
        variables = {"$labels": inner, "$externalLabels": outer, "$externalURL": self.external_url, "$value": value}
        try:
            return await self._render(template, data, variables)
        except (BadInput, LimitExceeded) as error:
            return f"<error expanding template: {error}>"

    async def _render(self, template: Template, data: Struct, variables: Mapping[str, Any]) -> str:
        functions: dict[str, Function] = {
            **_PURE,
            "query": self._answer,
            "externalURL": lambda: self.external_url,
            "pathPrefix": lambda: urlsplit(self.external_url).path,
            "now": lambda: self.now_ms / 1000,
            "tmpl": _query,
        }
        for _ in range(MAX_QUERIES + 1):
            try:
                return render(template, data, variables=variables, functions=functions)
            except _Unanswered as wanted:
                self.answers[wanted.expr] = await self.query(wanted.expr)
        raise LimitExceeded(f"a template made more than {MAX_QUERIES} different queries")

    def _answer(self, expr: Any) -> list[Struct]:
        text = _text(expr)
        if text not in self.answers:
            raise _Unanswered(text)
        return [_sample(labels, value) for labels, value in self.answers[text]]
