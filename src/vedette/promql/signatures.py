"""The functions of PromQL: names, argument types, and which are experimental (off unless asked for)."""

from __future__ import annotations

from vedette.promql.nodes import Function, ValueType

_OF_VECTOR = """
    abs ceil exp floor ln log2 log10 sgn sqrt sort sort_desc timestamp absent deg rad sin cos tan asin acos atan sinh cosh tanh
    asinh acosh atanh histogram_avg histogram_count histogram_sum histogram_stddev histogram_stdvar
"""
_OF_WINDOWS = """
    rate increase delta irate idelta deriv resets changes absent_over_time present_over_time avg_over_time count_over_time
    last_over_time max_over_time min_over_time sum_over_time stddev_over_time stdvar_over_time first_over_time
"""
_OF_WINDOWS_EXPERIMENTAL = "mad_over_time ts_of_first_over_time ts_of_last_over_time ts_of_max_over_time ts_of_min_over_time"
_DATES = "days_in_month day_of_month day_of_week day_of_year hour minute month year"


def _table() -> dict[str, Function]:
    vector: tuple[ValueType, ...] = ("vector",)
    matrix: tuple[ValueType, ...] = ("matrix",)
    found = [Function(name, vector) for name in _OF_VECTOR.split()]
    found += [Function(name, matrix) for name in _OF_WINDOWS.split()]
    found += [Function(name, matrix, experimental=True) for name in _OF_WINDOWS_EXPERIMENTAL.split()]
    found += [Function(name, vector, variadic=1) for name in _DATES.split()]
    found += [
        Function("clamp", ("vector", "scalar", "scalar")),
        Function("clamp_max", ("vector", "scalar")),
        Function("clamp_min", ("vector", "scalar")),
        Function("double_exponential_smoothing", ("matrix", "scalar", "scalar"), experimental=True),
        Function("histogram_fraction", ("scalar", "scalar", "vector")),
        Function("histogram_quantile", ("scalar", "vector")),
        Function("histogram_quantiles", ("vector", "string", "scalar", "scalar"), variadic=9, experimental=True),
        Function("info", ("vector", "vector"), variadic=1, experimental=True),
        Function("label_join", ("vector", "string", "string", "string"), variadic=-1),
        Function("label_replace", ("vector", "string", "string", "string", "string")),
        Function("max_of", ("scalar", "scalar"), "scalar", experimental=True),
        Function("min_of", ("scalar", "scalar"), "scalar", experimental=True),
        Function("pi", (), "scalar"),
        Function("predict_linear", ("matrix", "scalar")),
        Function("quantile_over_time", ("scalar", "matrix")),
        Function("round", ("vector", "scalar"), variadic=1),
        Function("scalar", vector, "scalar"),
        Function("sort_by_label", ("vector", "string"), variadic=-1, experimental=True),
        Function("sort_by_label_desc", ("vector", "string"), variadic=-1, experimental=True),
        Function("start_timestamp", vector, experimental=True),
        Function("time", (), "scalar"),
        Function("vector", ("scalar",)),
    ]
    found += [Function(name, (), "scalar", experimental=True) for name in ("start", "end", "step", "range")]
    return {f.name: f for f in found}


FUNCTIONS = _table()
"""Every function by its name."""
