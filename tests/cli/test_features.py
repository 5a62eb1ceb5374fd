"""`--enable-feature` takes Prometheus' names; each experimental part is refused in Prometheus' words until its flag is given."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from vedette.cli.serve import _enabled
from vedette.promql.errors import ParseError
from vedette.promql.parse import parse
from vedette.promql.settings import FEATURES, Features, PromqlSettings
from vedette.settings import resolve

REFUSED = {
    "promql-experimental-functions": ("mad_over_time(m[5m])", '1:1: parse error: function "mad_over_time" is not enabled'),
    "promql-extended-range-selectors": ("rate(m[5m] anchored)", "anchored modifier is experimental and not enabled"),
    "promql-binop-fill-modifiers": ("a + fill(0) b", "binop fill modifiers are experimental and not enabled"),
    "promql-duration-expr": ("rate(m[5m * 2])", "experimental duration expression is not enabled"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_off_until_enabled(name: str) -> None:
    expr, message = REFUSED[name]
    with pytest.raises(ParseError) as refused:
        parse(expr, Features(duration_expr=False))
    assert message in str(refused.value)
    flags = dict.fromkeys(_enabled([name]), True)
    parse(expr, resolve(flags=flags, environment={}).vedette.promql.features)


def test_lists_are_taken_and_unknown_names_are_told() -> None:
    with capture_logs() as logs:
        found = _enabled(["promql-experimental-functions, use-start-timestamps", "exemplar-storage", ""])
    assert found == [("promql", "experimental_functions"), ("promql", "use_start_timestamps")]
    assert [(line["event"], line["option"]) for line in logs] == [("unknown option for --enable-feature", "exemplar-storage")]


def test_each_name_is_a_setting() -> None:
    assert set(FEATURES.values()) <= set(PromqlSettings.__dataclass_fields__)
    settings = resolve(flags={("promql", setting): True for setting in FEATURES.values()}, environment={})
    for setting in FEATURES.values():
        assert getattr(settings.vedette.promql, setting) is True
        (origin,) = [o for o in settings.origins if o.setting == f"promql.{setting}"]
        assert origin.source in ("--enable-feature", "default")
