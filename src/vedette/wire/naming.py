"""What names of other systems (Influx, OpenTSDB, Datadog) come to: kept as they are, or made such that a query needs no quotes.

Not here: OTLP's, which adds units and types (`otlp_names.py`); names for scrapers that know no UTF-8 (`escaping.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from vedette.errors import BadInput
from vedette.model.labels import METRIC_NAME, Labels, is_legacy_label_name, is_legacy_metric_name

Names = Literal["underscores", "utf8"]
NAMES: tuple[Names, ...] = ("underscores", "utf8")

_NOT_METRIC = re.compile(r"[^a-zA-Z0-9_:]")
_NOT_LABEL = re.compile(r"[^a-zA-Z0-9_]")


def parse_names(text: str) -> Names:
    """One of `NAMES`. Raises `BadInput`."""
    found = next((n for n in NAMES if n == text), None)
    if found is None:
        raise BadInput(f"{text!r} is no way to make names", hint="expected underscores or utf8")
    return found


def metric_name(name: str, names: Names) -> str:
    """A metric's name: each character that needs quotes becomes an underscore, and one stands before a leading digit."""
    if names == "utf8" or is_legacy_metric_name(name):
        return name
    made = _NOT_METRIC.sub("_", name)
    return f"_{made}" if made[:1].isdigit() else made


def label_name(name: str, names: Names) -> str:
    """A label's name, as `metric_name`."""
    if names == "utf8" or is_legacy_label_name(name):
        return name
    made = _NOT_LABEL.sub("_", name)
    return f"_{made}" if made[:1].isdigit() else made


def labels_of(metric: str, tags: Iterable[tuple[str, str]], names: Names, more: Iterable[tuple[str, str]] = ()) -> Labels:
    """The labels of a metric with tags; an empty tag is none.

    Tags whose names become one name have their values joined by `;`, in the order of their own names, so that no two series become
    one by this. `more` are labels that stand where no tag does. Raises `BadInput` for an empty metric name, and for a tag that is
    called `__name__`.
    """
    if not metric:
        raise BadInput("no metric name")
    found: dict[str, str] = {}
    sources: dict[str, dict[str, str]] = {}
    for tag, value in tags:
        if tag == METRIC_NAME:
            raise BadInput(f"a tag is called {METRIC_NAME}", hint="the metric's own name goes by that")
        if not value:
            continue
        made = label_name(tag, names)
        if made in found:
            sources[made][tag] = value
            found[made] = ";".join(v for _, v in sorted(sources[made].items()))
        else:
            found[made], sources[made] = value, {tag: value}
    for label, value in more:
        found.setdefault(label, value)
    found[METRIC_NAME] = metric_name(metric, names)
    return Labels.of(found)
