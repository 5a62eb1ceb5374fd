"""From addresses to targets: the labels that a target starts with, relabelling, and what remains of them. Pure.

Not here: where addresses come from (`discovery.py`) and asking the targets (`scrape.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from vedette.collect.config import ScrapeConfig
from vedette.errors import BadInput
from vedette.model.durations import format_duration, parse_duration
from vedette.model.labels import Labels
from vedette.model.relabel import relabel

ADDRESS, SCHEME, PATH = "__address__", "__scheme__", "__metrics_path__"
INTERVAL, TIMEOUT, PARAM, META = "__scrape_interval__", "__scrape_timeout__", "__param_", "__meta_"


@dataclass(frozen=True, slots=True)
class Target:
    """Something to scrape. Its identity is labels and URL; times in ms; `discovered` are the labels before relabelling."""

    labels: Labels
    url: str
    interval_ms: int
    timeout_ms: int
    discovered: Labels


@dataclass(frozen=True, slots=True)
class DroppedTarget:
    """What relabelling dropped, or an address that makes no target (`reason` says why, empty for relabelling)."""

    pool: str
    discovered: Labels
    reason: str = ""


def discovered_labels(config: ScrapeConfig, labels: Mapping[str, str]) -> Labels:
    """What relabelling starts from: the labels that were found, and the job's settings as labels where those are silent."""
    assert config.scrape_interval is not None and config.scrape_timeout is not None, "the configuration is to be filled in"
    defaults = {
        "job": config.job_name,
        INTERVAL: format_duration(config.scrape_interval),
        TIMEOUT: format_duration(config.scrape_timeout),
        PATH: config.metrics_path,
        SCHEME: config.scheme,
    }
    for name, values in config.params.items():
        if values:
            defaults[PARAM + name] = values[0]
    given = {n: v for n, v in labels.items() if v}
    return Labels.of({**defaults, **given})


def target_of(config: ScrapeConfig, discovered: Labels) -> Target | None:
    """The target that relabelling makes of `discovered`; None where it drops it. Raises `BadInput` for no usable target."""
    kept = relabel(discovered, config.relabel_configs)
    if kept is None:
        return None
    labels = kept.as_dict()
    address = labels.get(ADDRESS, "")
    if not address:
        raise BadInput("no address")
    if "/" in address:
        raise BadInput(f"{address!r} is not a valid hostname")
    interval, timeout = _duration(labels, INTERVAL, "interval"), _duration(labels, TIMEOUT, "timeout")
    if timeout > interval:
        raise BadInput(f"scrape timeout cannot be greater than scrape interval ({labels[TIMEOUT]!r} > {labels[INTERVAL]!r})")
    labels = {n: v for n, v in labels.items() if not n.startswith(META)}
    labels.setdefault("instance", address)
    public = Labels.of({n: v for n, v in labels.items() if not n.startswith("__")})
    return Target(public, _url(config, labels), interval, timeout, discovered)


def _duration(labels: Mapping[str, str], name: str, noun: str) -> int:
    try:
        value = parse_duration(labels.get(name, ""))
    except BadInput as error:
        raise BadInput(f"error parsing scrape {noun}: {error.problem}", hint=error.hint) from None
    if value == 0:
        raise BadInput(f"scrape {noun} cannot be 0")
    return value


def _url(config: ScrapeConfig, labels: Mapping[str, str]) -> str:
    params = {n: list(values) for n, values in config.params.items()}
    for name, value in labels.items():
        if name.startswith(PARAM):
            key = name.removeprefix(PARAM)
            params[key] = [value, *params.get(key, [""])[1:]]
    path, mark, query = labels.get(PATH, "").partition("?")
    if path and not path.startswith("/"):
        path = "/" + path
    given = urlencode(sorted(params.items()), doseq=True)
    both = "&".join(q for q in (query if mark else "", given) if q)
    return f"{labels.get(SCHEME, '')}://{labels[ADDRESS]}{path}" + (f"?{both}" if both else "")


def targets_of(config: ScrapeConfig, found: Iterable[Mapping[str, str]]) -> tuple[list[Target], list[DroppedTarget]]:
    """All targets of a job, each once, and those dropped."""
    active: dict[tuple[Labels, str], Target] = {}
    dropped: list[DroppedTarget] = []
    for labels in found:
        discovered = discovered_labels(config, labels)
        try:
            target = target_of(config, discovered)
        except BadInput as error:
            dropped.append(DroppedTarget(config.job_name, discovered, str(error)))
            continue
        if target is None:
            dropped.append(DroppedTarget(config.job_name, discovered))
        else:
            active.setdefault((target.labels, target.url), target)
    return list(active.values()), dropped
