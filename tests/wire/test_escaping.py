"""Names as scrapers without UTF-8 names read them: the table of Prometheus' own tests, and what `Accept` asks for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.model.labels import is_legacy_metric_name
from vedette.wire.escaping import SCHEMES, asked_for


@pytest.mark.parametrize(
    ("name", "underscores", "dots", "values"),
    [
        ("", "", "", ""),
        ("no:escaping_required", "no:escaping_required", "no:escaping_required", "no:escaping_required"),
        (
            "mysystem.prod.west.cpu.load",
            *("mysystem_prod_west_cpu_load", "mysystem_dot_prod_dot_west_dot_cpu_dot_load"),
            "U__mysystem_2e_prod_2e_west_2e_cpu_2e_load",
        ),
        (
            "mysystem.prod.west.cpu.load_total",
            *("mysystem_prod_west_cpu_load_total", "mysystem_dot_prod_dot_west_dot_cpu_dot_load__total"),
            "U__mysystem_2e_prod_2e_west_2e_cpu_2e_load__total",
        ),
        ("http.status:sum", "http_status:sum", "http_dot_status:sum", "U__http_2e_status:sum"),
        ("label with \U0001f631", "label_with__", "label__with____", "U__label_20_with_20__1f631_"),
        ("label with \u0100", "label_with__", "label__with____", "U__label_20_with_20__100_"),
        ("1digit", "_digit", "__digit", "U___31_digit"),
    ],
)
def test_prometheus_own_examples(name: str, underscores: str, dots: str, values: str) -> None:
    assert [SCHEMES[s](name) for s in ("underscores", "dots", "values", "allow-utf-8")] == [underscores, dots, values, name]


@given(st.text(min_size=1), st.sampled_from(["underscores", "dots", "values"]))
def test_whatever_comes_is_a_plain_name_after_it(name: str, scheme: str) -> None:
    assert is_legacy_metric_name(SCHEMES[scheme](name))


@pytest.mark.parametrize(
    ("accept", "scheme"),
    [
        ("", ""),
        ("*/*", ""),
        ("text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,*/*;q=0.1", "allow-utf-8"),
        ("application/openmetrics-text;version=1.0.0; escaping = dots ,text/plain;escaping=values", "dots"),
        ("text/plain;escaping=none", ""),
        ("text/plain;escaping", ""),
    ],
)
def test_what_a_scraper_asks_for(accept: str, scheme: str) -> None:
    assert asked_for(accept) == scheme
