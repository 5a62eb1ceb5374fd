"""The shapes of queries that are measured: every family of functions and operators over a million samples, and dashboards' small ones."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Query:
    """One expression. `big`: it reads at least a million samples. `NEW` in it stands for a number that is another each time it is asked.

    Answers are compared from `since_s` seconds after the data's start, numbers to within `tolerance` of each other.
    """

    name: str
    expression: str
    big: bool = True
    since_s: float = 0.0
    tolerance: float = 1e-9

    def text(self, number: int) -> str:
        """The expression as it is asked for the `number`-th time."""
        return self.expression.replace("NEW", str(100 + number))


GAUGES, REQUESTS = "vm_memory_bytes", "http_requests_total"

_OVER_TIME = ("sum", "avg", "min", "max", "count", "last", "stddev", "stdvar")

# Prometheus 3 extrapolates less than Prometheus 2 to the zero of a counter where a range begins before the data, so ranges are
# compared only where the data fills them.
FULL_RANGE = 300.0

FLEET = (
    Query("sum by, all series", 'sum by (region) ({__name__=~".+"})'),
    Query("count by name, all series", 'count by (__name__) ({__name__=~".+"})'),
    Query("max by", f"max by (region) ({GAUGES})"),
    Query("avg without", f"avg without (instance, vm) ({GAUGES})"),
    Query("group by", f"group by (region) ({GAUGES})"),
    Query("stddev by", f"stddev by (region) ({GAUGES})"),
    Query("quantile by", f"quantile by (region) (0.9, {GAUGES})"),
    Query("topk", f"topk(5, {GAUGES})"),
    Query("bottomk by", f"bottomk by (region) (3, {GAUGES})"),
    Query("count_values", f'count_values("gib", floor({GAUGES} / 1073741824))'),
    Query("rate", f"sum by (region) (rate({REQUESTS}[5m]))", since_s=FULL_RANGE),
    Query("increase", f"sum(increase({REQUESTS}[5m]))", since_s=FULL_RANGE),
    Query("irate", f"sum(irate({REQUESTS}[1m]))"),
    Query("delta", f"max(delta({GAUGES}[5m]))", since_s=FULL_RANGE),
    Query("idelta", f"max(idelta({GAUGES}[5m]))"),
    Query("deriv", f"max(deriv({GAUGES}[5m]))", tolerance=1e-6),
    Query("predict_linear", f"max(predict_linear({GAUGES}[5m], 3600))", tolerance=1e-6),
    Query("changes", f"sum(changes({GAUGES}[5m]))"),
    Query("resets", f"sum(resets({REQUESTS}[5m]))"),
    *(Query(f"{name}_over_time", f"max({name}_over_time({GAUGES}[5m]))", tolerance=1e-6) for name in _OVER_TIME),
    Query("quantile_over_time", f"max(quantile_over_time(0.9, {GAUGES}[5m]))"),
    Query("histogram_quantile of sums", "histogram_quantile(0.99, sum by (le, region) (rate(rpc_seconds_bucket[5m])))", since_s=FULL_RANGE),
    Query("histogram_quantile of each", "max(histogram_quantile(0.9, rate(rpc_seconds_bucket[5m])))", since_s=FULL_RANGE),
    Query("join one to one", f'sum({REQUESTS}{{code="500"}} / ignoring (code) {REQUESTS}{{code="200"}})'),
    Query("join many to one", f"sum({GAUGES} / on (instance) group_left () sum by (instance) ({GAUGES}))"),
    Query("and", f"count({GAUGES} and on (instance, region) {REQUESTS})"),
    Query("unless", f"count({GAUGES} unless {GAUGES} > 2e9)"),
    Query("or", f"count({GAUGES} > 2e9 or {GAUGES})"),
    Query("arithmetic", f"sum({GAUGES} / 1024 / 1024 * 2)"),
    Query("comparison", f"count({GAUGES} > 2e9)"),
    Query("clamp and round", f"sum(round(clamp_max({GAUGES}, 2e9), 1000))"),
    Query("label_replace", f'count by (short) (label_replace({GAUGES}, "short", "$1", "instance", "i-(...).*"))'),
    Query("subquery of rates", f"max(max_over_time(rate({REQUESTS}[1m] offset 500ms)[3m:30s]))", since_s=FULL_RANGE),
    Query("sort of sums", f"sort_desc(sum by (instance) ({GAUGES}))"),
    Query("every point", f'{GAUGES}{{vm=~"vm-.*"}}'),
    Query("sum of rate, 1,000 series", f'sum(rate({REQUESTS}{{handler="/",method="GET",code="200"}}[5m]))', False, FULL_RANGE),
    Query("join of two metrics, 360 series", "devops_cpu_0 - on (hostname) devops_cpu_1", big=False),
    Query("20 series", f'{GAUGES}{{instance="i-00007"}}', big=False),
    Query("rate of 20 series", f'sum by (code) (rate({REQUESTS}{{instance="i-00007"}}[5m]))', False, FULL_RANGE),
    Query("one series", 'devops_cpu_0{hostname="host_1"}', big=False),
    Query("rate of one series", 'rate(devops_net_0{hostname="host_1"}[5m])', False, FULL_RANGE),
    Query(
        "share of an instance",
        f'{GAUGES}{{instance="i-00007"}} / on (instance) group_left () sum by (instance) ({GAUGES}{{instance="i-00007"}})',
        False,
    ),
    Query("rate or zero", f'sum(rate({REQUESTS}{{instance="i-00007",code="500"}}[5m])) or vector(0)', False, FULL_RANGE),
    Query("top of 20 series", f'topk(3, {GAUGES}{{instance="i-00007"}})', big=False),
    Query("renamed, of 20 series", f'label_replace({GAUGES}{{instance="i-00007"}}, "short", "$1", "instance", "i-0*(.*)")', big=False),
    Query("absent", 'absent(devops_cpu_0{hostname="nobody"})', big=False),
    Query("one series, never asked before", 'devops_cpu_0{hostname="host_NEW"}', big=False),
    Query("rate of 20 series, never asked before", 'sum by (code) (rate(http_requests_total{instance="i-00NEW"}[5m]))', False, FULL_RANGE),
    Query(
        "quotient of sums, never asked before",
        'sum(rate(devops_net_0{hostname="host_NEW"}[5m])) / sum(rate(devops_net_1{hostname="host_NEW"}[5m]))',
        False,
        FULL_RANGE,
    ),
)
"""Over the fleet of `fleet.py`."""

EVENTS = "events_total"

MONTH = (
    Query("rate, by the hour", f"sum(rate({EVENTS}[1h]))"),
    Query("rate, 10 series by the hour", f"rate({EVENTS}[1h])"),
    Query("increase, by the day", f"sum by (zone) (increase({EVENTS}[1d]))", since_s=86_400.0),
    Query("avg_over_time, by the hour", f"avg_over_time({EVENTS}[1h])"),
    Query("max_over_time, by the day", f"max_over_time({EVENTS}[1d])"),
    Query("quantile_over_time, by the hour", f"quantile_over_time(0.9, {EVENTS}[1h])"),
    Query("deriv, by the hour", f"deriv({EVENTS}[1h])", tolerance=1e-6),
    Query("sum of the last, by the hour", f"sum({EVENTS})"),
    Query("subquery of rates", f"max_over_time(rate({EVENTS}[5m] offset 500ms)[1h:5m])"),
    Query("one series, by the hour", f'{EVENTS}{{instance="i-3"}}', big=False),
)
"""Over the month of `fleet.py`."""
