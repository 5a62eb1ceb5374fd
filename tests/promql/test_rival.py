"""The compliance suite's query templates against Debian's Prometheus, both holding the same data.

Samples lie off the query's steps, so that it does not matter that Prometheus 2 closes a window at its left end and
Prometheus 3 does not. Where the two major versions differ on purpose, the query is listed with the reason.
"""

from __future__ import annotations

import itertools
import math
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from vedette.clock import SystemClock
from vedette.errors import VedetteError
from vedette.model.labels import Labels
from vedette.promql.engine import Engine
from vedette.promql.memory import MemoryStorage
from vedette.promql.settings import PromqlSettings

sys.path.insert(0, str(Path(__file__).parent))
from debian import answered, served

ARITHMETIC = ["+", "-", "*", "/", "%", "^"]
COMPARISONS = ["==", "!=", "<", ">", "<=", ">="]
VARIANTS = {
    "range": ["1s", "15s", "1m", "5m", "15m", "1h"],
    "offset": ["1m", "5m", "10m"],
    "simpleAggrOp": ["sum", "avg", "max", "min", "count", "stddev", "stdvar"],
    "simpleTimeAggrOp": ["sum", "avg", "max", "min", "count", "stddev", "stdvar", "absent", "last"],
    "topBottomOp": ["topk", "bottomk"],
    "quantile": ["-0.5", "0.1", "0.5", "0.75", "0.95", "0.90", "0.99", "1", "1.5"],
    "arithBinOp": ARITHMETIC,
    "compBinOp": COMPARISONS,
    "binOp": ARITHMETIC + COMPARISONS,
    "simpleMathFunc": ["abs", "ceil", "floor", "exp", "sqrt", "ln", "log2", "log10", "round"],
    "extrapolatedRateFunc": ["delta", "rate", "increase"],
    "clampFunc": ["clamp_min", "clamp_max"],
    "instantRateFunc": ["idelta", "irate"],
    "dateFunc": ["day_of_month", "day_of_week", "days_in_month", "hour", "minute", "month", "year"],
    "smoothingFactor": ["0.1", "0.5", "0.8"],
    "trendFactor": ["0.1", "0.5", "0.8"],
}
VERSION_DIFFERENCES = {
    'label_join(demo_num_cpus, "~invalid", "-", "instance")': "Prometheus 3 allows any UTF-8 label name",
    "atan2": "Prometheus 3 drops the metric name, as with other arithmetic",
    "holt_winters": "renamed to double_exponential_smoothing, and experimental",
}
BEGIN, INTERVAL, SAMPLES = 1_700_000_000_000, 5_000, 720
START, END, STEP = BEGIN + 2_400_000, BEGIN + 3_000_000, 10_000

FURTHER = """
demo_memory_usage_bytes @ 1700002500 - demo_memory_usage_bytes offset -1m
rate(demo_cpu_usage_seconds_total[1m] @ end() offset 3m)
max_over_time(rate(demo_cpu_usage_seconds_total[1m])[10m1ms:37s])
avg_over_time(sum by (mode) (demo_cpu_usage_seconds_total)[5m:] @ start())
min_over_time(avg(demo_memory_usage_bytes @ 1700002500)[5m:1m])
count_over_time((demo_intermittent_metric > 0)[10m1ms:7s] offset 1m)
quantile_over_time(0.35, demo_memory_usage_bytes[3m])
predict_linear(demo_memory_usage_bytes[10m], 3600)
deriv(demo_disk_usage_bytes[7m])
stddev_over_time(demo_disk_usage_bytes[7m]) / stdvar_over_time(demo_disk_usage_bytes[7m])
changes(demo_cpu_usage_seconds_total[20m]) + resets(demo_cpu_usage_seconds_total[20m])
irate(demo_cpu_usage_seconds_total[30s]) - idelta(demo_cpu_usage_seconds_total[30s])
increase(demo_cpu_usage_seconds_total[8s])
delta(demo_intermittent_metric[4m])
histogram_quantile(0.9, rate(demo_api_request_duration_seconds_bucket[5m]))
histogram_quantile(0.2, sum by (le) (increase(demo_api_request_duration_seconds_bucket[2m])))
histogram_quantile(scalar(vector(0.5)), demo_api_request_duration_seconds_bucket)
demo_memory_usage_bytes / on (instance, job) group_left () sum by (instance, job) (demo_memory_usage_bytes)
demo_num_cpus * on (instance) group_right (job) demo_cpu_usage_seconds_total
demo_memory_usage_bytes{type="used"} > ignoring (type) demo_memory_usage_bytes{type="free"}
demo_memory_usage_bytes{type="used"} >= bool ignoring (type) demo_memory_usage_bytes{type="free"}
demo_memory_usage_bytes > 0 or demo_disk_usage_bytes unless demo_num_cpus
demo_memory_usage_bytes and on (instance) demo_intermittent_metric
demo_intermittent_metric or on (instance) demo_num_cpus
label_replace(demo_num_cpus, "port", "${1}", "instance", ".*:(.*)")
label_join(demo_num_cpus, "both", "-", "job", "instance")
sum(label_replace(demo_cpu_usage_seconds_total, "first", "$1", "mode", "(.).*")) by (first)
count_values("cpus", demo_num_cpus)
count_values without (instance) ("v", round(demo_intermittent_metric / 1e9))
quantile by (type) (0.7, demo_memory_usage_bytes)
topk(3, demo_memory_usage_bytes)
bottomk by (instance) (1, demo_memory_usage_bytes)
absent(demo_intermittent_metric{instance="demo.promlabs.com:10000"})
absent_over_time(demo_intermittent_metric[1m])
scalar(demo_num_cpus) + scalar(sum(demo_num_cpus))
timestamp(demo_num_cpus) - time()
timestamp(demo_num_cpus @ 1700002500)
day_of_year(demo_batch_last_success_timestamp_seconds) + minute()
clamp(demo_memory_usage_bytes, -1e8, 1e8)
-demo_memory_usage_bytes ^ 2 % 7
demo_num_cpus atan2 2
sgn(demo_memory_usage_bytes) + deg(acos(demo_memory_usage_bytes / 1e9))
sum(demo_memory_usage_bytes) / 0
vector(1) == bool 1 or vector(NaN)
present_over_time(demo_intermittent_metric[2m])
group by (type) (demo_memory_usage_bytes)
sum without (type, nothing) (demo_memory_usage_bytes)
sum by (__name__) ({__name__=~"demo_.*"})
rate({__name__=~"demo_num_cpus|demo_disk_usage_bytes"}[1m])
demo_memory_usage_bytes + demo_num_cpus
sum by (instance) (demo_cpu_usage_seconds_total) + on (job) demo_num_cpus
last_over_time(demo_intermittent_metric[10m]) - demo_intermittent_metric
demo_memory_usage_bytes ^ 3 % 11
(demo_num_cpus / 3) ^ -2.25
"""


def dataset() -> MemoryStorage:
    """An hour of the metrics that the templates ask for, from three instances; each sample 1.234 s behind a multiple of 5 s."""
    storage, rng = MemoryStorage(), random.Random(42)
    series: list[tuple[dict[str, str], str]] = []
    for port in ("10000", "10001", "10002"):
        at = {"instance": f"demo.promlabs.com:{port}", "job": "demo"}
        series += [({"__name__": "demo_memory_usage_bytes", "type": t, **at}, "gauge") for t in ("buffers", "cached", "free", "used")]
        series += [({"__name__": "demo_cpu_usage_seconds_total", "mode": m, **at}, "counter") for m in ("idle", "system", "user")]
        series += [
            ({"__name__": "demo_api_request_duration_seconds_bucket", "le": le, **at}, "bucket") for le in ("0.1", "1", "10", "+Inf")
        ]
        series += [({"__name__": "demo_num_cpus", **at}, "constant"), ({"__name__": "demo_disk_usage_bytes", **at}, "gauge")]
        series += [
            ({"__name__": "demo_batch_last_success_timestamp_seconds", **at}, "time"),
            ({"__name__": "demo_intermittent_metric", **at}, "gaps"),
        ]
    for labels, kind in series:
        level = rng.random() * 100
        scale = 1 + ("0.1", "1", "10", "+Inf").index(labels["le"]) if "le" in labels else 1
        for i in range(SAMPLES):
            when = BEGIN + i * INTERVAL + 1_234
            if kind == "gaps" and i // 30 % 2:
                continue
            level = 0.0 if kind == "counter" and rng.random() < 0.005 else level + rng.random() * scale
            value = {"constant": 4.0, "time": float(when // 100_000 * 100), "gauge": 1e9 * math.sin(i / 50 + level / 1e3)}.get(kind, level)
            storage.add(Labels.of(labels), when, value)
    return storage


@pytest.fixture(scope="module")
def storage() -> MemoryStorage:
    return dataset()


@pytest.fixture(scope="module")
def rival(storage: MemoryStorage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus over the same data: its address."""
    with served(storage, tmp_path_factory.mktemp("rival")) as address:
        yield address


def expanded(path: Path) -> Iterator[tuple[str, bool]]:
    """Every query of the templates, and whether it must fail."""
    for case in yaml.safe_load(path.read_text())["test_cases"]:
        names = case.get("variant_args", [])
        for values in itertools.product(*(VARIANTS[n] for n in names)):
            query = case["query"]
            for name, value in zip(names, values, strict=True):
                query = query.replace("{{." + name + "}}", value)
            yield query, case.get("should_fail", False)


def asked(address: str, query: str) -> dict[Labels, dict[int, float]] | None:
    """Prometheus' answer; None where it refuses."""
    params = {"query": query, "start": f"{START / 1000}", "end": f"{END / 1000}", "step": f"{STEP / 1000}"}
    kind, result = answered(address, "query_range", params)
    if kind == "error":
        return None
    assert isinstance(result, list)
    return {Labels.of(row["metric"]): {round(t * 1000): float(v) for t, v in row["values"]} for row in result}


def evaluated(engine: Engine, query: str) -> dict[Labels, dict[int, float]] | None:
    try:
        result = engine.range("t", query, START, END, STEP)
    except VedetteError:
        return None
    return {labels: dict(zip(times.tolist(), values.tolist(), strict=True)) for labels, times, values in result.rows()}


def difference(ours: dict[Labels, dict[int, float]] | None, theirs: dict[Labels, dict[int, float]] | None) -> str:
    if ours is None or theirs is None:
        return "" if ours is theirs else f"{'we refuse' if ours is None else 'Prometheus refuses'} it"
    if ours.keys() != theirs.keys():
        return f"series differ: {ours.keys() ^ theirs.keys()}"
    for labels, points in theirs.items():
        if points.keys() != ours[labels].keys():
            return f"{labels}: points differ at {sorted(points.keys() ^ ours[labels].keys())[:3]}"
        for when, value in points.items():
            got = ours[labels][when]
            if not (math.isnan(got) and math.isnan(value)) and got != value and not math.isclose(got, value, rel_tol=1e-9):
                return f"{labels} at {when}: ours {got!r}, theirs {value!r}"
    return ""


def test_the_compliance_queries_give_what_prometheus_gives(
    rival: str, storage: MemoryStorage, conformance: Path, debian_binary: Callable[[str], str]
) -> None:
    engine = Engine(storage, PromqlSettings(), SystemClock())
    queries = list(expanded(conformance / "prometheus_compliance" / "promql" / "promql-test-queries.yml"))
    queries += [(query, False) for query in FURTHER.split("\n") if query]
    problems, compared = [], 0
    for query, must_fail in queries:
        if any(part in query for part in VERSION_DIFFERENCES):
            continue
        ours = evaluated(engine, query)
        if must_fail and ours is not None:
            problems.append(f"{query}: must be refused")
        if problem := difference(ours, asked(rival, query)):
            problems.append(f"{query}: {problem}")
        compared += bool(ours)
    engine.close()
    assert not problems, f"{len(problems)} of {len(queries)} differ:\n" + "\n".join(problems)
    assert compared > len(queries) // 2, "most queries must have something to compare"
