"""Prometheus' `global` and `scrape_configs` sections, whole: every key is read, or refused with a reason.

`CollectConfig.of` joins the two: defaults are filled in from `global`, file names taken from the configuration's directory,
job names checked to be unique. Not here: the other sections of `prometheus.yml` (`settings.py`), and what the labels of a
target come to (`targets.py`).
"""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

from vedette import configfile
from vedette.configfile import option
from vedette.errors import BadInput
from vedette.model.durations import format_duration, parse_duration
from vedette.model.relabel import RelabelConfig
from vedette.net.config import HttpConfig

Scheme = Literal["http", "https"]
PROTOCOLS = {
    "OpenMetricsText1.0.0": "application/openmetrics-text;version=1.0.0",
    "OpenMetricsText0.0.1": "application/openmetrics-text;version=0.0.1",
    "PrometheusText1.0.0": "text/plain;version=1.0.0",
    "PrometheusText0.0.4": "text/plain;version=0.0.4",
    "PrometheusProto": "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
}
"""Scrape protocols by their names in the file, and the media type asked for."""

_MINUTE_MS = 60_000
_DEFAULT_PROTOCOLS = tuple(p for p in PROTOCOLS if p != "PrometheusProto")
_NATIVE_PROTOCOLS = ("PrometheusProto", *_DEFAULT_PROTOCOLS)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|[KMGTPE]i?B?)\Z")
_SIZE_POWERS = {"K": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
_FILE_PATTERN = re.compile(r"[^*]*(\*[^/]*)?\.(json|yml|yaml|JSON|YML|YAML)\Z")


def parse_size(text: str) -> int:
    """Bytes of a size such as `15MB` or `1.5GiB`; units are powers of 1024, with or without the i. 0 is no limit."""
    if text == "0":
        return 0
    match = _SIZE.match(text)
    if match is None:
        raise BadInput(f"not a valid size: {text!r}", hint="expected a number and a unit, such as 512KB or 15MB")
    return int(float(match.group(1)) * 1024 ** _SIZE_POWERS.get(match.group(2)[0], 0))


def _positive(text: str) -> int:
    value = parse_duration(text)
    if value <= 0:
        raise BadInput("must be longer than 0s", hint=f"got {text!r}")
    return value


def _or(default: int | None) -> Callable[[str], int | None]:
    """Reads a duration; 0 is as if nothing were said, as Prometheus has it."""
    return lambda text: parse_duration(text) or default


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise BadInput(f"{text!r} where a whole number from 0 is expected")
    return int(text)


def _scheme_name(text: str) -> str:
    if text not in ("", "utf8", "legacy"):
        raise BadInput(f"unknown metric name validation scheme {text!r}", hint="expected utf8 or legacy")
    return text


def _escaping_name(text: str) -> str:
    if text not in ("", "allow-utf-8", "underscores", "dots", "values"):
        raise BadInput(f"unknown metric name escaping scheme {text!r}", hint="expected allow-utf-8, underscores, dots or values")
    return text


def _protocol(text: str) -> str:
    if text not in PROTOCOLS:
        raise BadInput(f"unknown scrape protocol {text!r}", hint="expected one of " + ", ".join(PROTOCOLS))
    return text


def _check_protocols(protocols: tuple[str, ...]) -> None:
    if len(set(protocols)) < len(protocols):
        raise BadInput("duplicated protocol in scrape_protocols", where="scrape_protocols")


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalConfig:
    """`global`. Times in ms, sizes in bytes, 0 is no limit.

    `external_labels` are as written: whoever loads the whole file expands environment variables in them.
    """

    scrape_interval: int = option(_MINUTE_MS, convert=_or(_MINUTE_MS))
    scrape_timeout: int | None = option(None, convert=_or(None))
    evaluation_interval: int = option(_MINUTE_MS, convert=_or(_MINUTE_MS))
    rule_query_offset: int = option(0, convert=parse_duration)
    external_labels: Mapping[str, str] = option(factory=dict)
    query_log_file: str = ""
    scrape_failure_log_file: str = ""
    scrape_protocols: tuple[str, ...] | None = option(None, convert=_protocol)
    scrape_native_histograms: bool | None = None
    always_scrape_classic_histograms: bool = False
    convert_classic_histograms_to_nhcb: bool = False
    extra_scrape_metrics: bool = False
    body_size_limit: int = option(0, convert=parse_size)
    sample_limit: int = option(0, convert=_count)
    target_limit: int = option(0, convert=_count)
    label_limit: int = option(0, convert=_count)
    label_name_length_limit: int = option(0, convert=_count)
    label_value_length_limit: int = option(0, convert=_count)
    keep_dropped_targets: int = option(0, convert=_count)
    metric_name_validation_scheme: str = option("", convert=_scheme_name)
    metric_name_escaping_scheme: str = option("", convert=_escaping_name)

    def __post_init__(self) -> None:
        if self.scrape_timeout is not None and self.scrape_timeout > self.scrape_interval:
            raise BadInput("global scrape timeout greater than scrape interval", where="scrape_timeout")
        if self.scrape_protocols is not None:
            _check_protocols(self.scrape_protocols)
        for name in self.external_labels:
            if not name:
                raise BadInput(f"{name!r} is not a valid label name", where="external_labels")

    @property
    def timeout(self) -> int:
        """The scrape timeout in force, ms: 10 s unless given, never longer than the interval."""
        return min(10_000, self.scrape_interval) if self.scrape_timeout is None else self.scrape_timeout


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetGroup:
    """Addresses that share labels: one of `static_configs`, or an item of a discovery file."""

    targets: tuple[str, ...]
    labels: Mapping[str, str] = option(factory=dict)

    def __post_init__(self) -> None:
        for name in self.labels:
            if not name:
                raise BadInput(f"{name!r} is not a valid label name", where="labels")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDiscoveryConfig:
    """One of `file_sd_configs`: files (globs in the last part) with target groups, looked at for changes."""

    files: tuple[str, ...]
    refresh_interval: int = option(300_000, convert=_positive)

    def __post_init__(self) -> None:
        if not self.files:
            raise BadInput("file service discovery config must contain at least one path name", where="files")
        for name in self.files:
            if not _FILE_PATTERN.match(name):
                raise BadInput(f"path name {name!r} is not valid for file discovery", where="files", hint="*.json, *.yml or *.yaml")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpDiscoveryConfig(HttpConfig):
    """One of `http_sd_configs`: a URL that answers target groups as JSON."""

    url: str
    refresh_interval: int = option(60_000, convert=_positive)

    def __post_init__(self) -> None:
        HttpConfig.__post_init__(self)
        if not self.url.startswith(("http://", "https://")):
            raise BadInput("URL scheme must be 'http' or 'https'", where="url")
        if not self.url.partition("://")[2].partition("/")[0]:
            raise BadInput("host is missing in URL", where="url")


_LATER = "this service discovery is not supported yet; use file_sd_configs or http_sd_configs, which any of them can be turned into"
_DISCOVERIES = (
    "azure consul digitalocean dns docker dockerswarm ec2 eureka gce hetzner ionos kubernetes kuma lightsail linode marathon "
    "nerve nomad oci openstack outscale ovhcloud puppetdb scaleway serverset stackit triton uyuni vultr aws"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrapeConfig(HttpConfig):
    """One of `scrape_configs`. Times in ms, sizes in bytes; None is what `global` says.

    Read but without effect: `scrape_failure_log_file` (failures are in the log and in `/api/v1/targets`).
    """

    job_name: str
    honor_labels: bool = False
    honor_timestamps: bool = True
    track_timestamps_staleness: bool = False
    params: Mapping[str, tuple[str, ...]] = option(factory=dict)
    scrape_interval: int | None = option(None, convert=_or(None))
    scrape_timeout: int | None = option(None, convert=_or(None))
    scrape_protocols: tuple[str, ...] | None = option(None, convert=_protocol)
    fallback_scrape_protocol: str = option("", convert=_protocol)
    scrape_native_histograms: bool | None = None
    always_scrape_classic_histograms: bool | None = None
    scrape_classic_histograms: bool = False
    """The name of the setting above before Prometheus 3."""
    convert_classic_histograms_to_nhcb: bool | None = None
    extra_scrape_metrics: bool | None = None
    scrape_failure_log_file: str = ""
    metrics_path: str = "/metrics"
    scheme: Scheme = "http"
    enable_compression: bool = True
    body_size_limit: int | None = option(None, convert=parse_size)
    sample_limit: int | None = option(None, convert=_count)
    target_limit: int | None = option(None, convert=_count)
    label_limit: int | None = option(None, convert=_count)
    label_name_length_limit: int | None = option(None, convert=_count)
    label_value_length_limit: int | None = option(None, convert=_count)
    native_histogram_bucket_limit: int = option(0, convert=_count)
    native_histogram_min_bucket_factor: float = 0.0
    keep_dropped_targets: int | None = option(None, convert=_count)
    metric_name_validation_scheme: str = option("", convert=_scheme_name)
    metric_name_escaping_scheme: str = option("", convert=_escaping_name)
    relabel_configs: tuple[RelabelConfig, ...] = ()
    metric_relabel_configs: tuple[RelabelConfig, ...] = ()
    static_configs: tuple[TargetGroup, ...] = ()
    file_sd_configs: tuple[FileDiscoveryConfig, ...] = ()
    http_sd_configs: tuple[HttpDiscoveryConfig, ...] = ()

    UNSUPPORTED: ClassVar[dict[str, str]] = {f"{n}_sd_configs": _LATER for n in _DISCOVERIES.split()}

    def __post_init__(self) -> None:
        HttpConfig.__post_init__(self)
        if not self.job_name:
            raise BadInput("job_name is empty", where="job_name")
        if self.scrape_protocols is not None:
            if not self.scrape_protocols:
                raise BadInput("scrape_protocols cannot be empty", where="scrape_protocols")
            _check_protocols(self.scrape_protocols)
        if self.relabel_configs:
            return
        for group in self.static_configs:
            for address in group.targets:
                if "/" in address:  # a URL in place of an address; with relabelling it may be meant so
                    raise BadInput(f"{address!r} is not a valid hostname", where="static_configs", hint="host:port, without scheme or path")

    def with_global(self, given: GlobalConfig) -> ScrapeConfig:
        """The same with everything left open filled in. Raises `BadInput` where the two do not go together."""
        interval = given.scrape_interval if self.scrape_interval is None else self.scrape_interval
        timeout = min(given.timeout, interval) if self.scrape_timeout is None else self.scrape_timeout
        at = f"scrape config {self.job_name!r}"
        if timeout > interval:
            hint = f"{format_duration(timeout)} > {format_duration(interval)}"
            raise BadInput(f"scrape timeout greater than scrape interval for {at}", where="scrape_timeout", hint=hint)
        names = self.metric_name_validation_scheme or given.metric_name_validation_scheme or "utf8"
        escaping = self.metric_name_escaping_scheme or given.metric_name_escaping_scheme
        if names == "legacy" and escaping == "allow-utf-8":
            problem = "utf8 metric names requested but validation scheme is not set to UTF8"
            raise BadInput(problem, where="metric_name_escaping_scheme", hint=at)

        def either(name: str) -> int:
            own: int | None = getattr(self, name)
            return int(getattr(given, name)) if own is None else own

        def flag(name: str) -> bool:
            own: bool | None = getattr(self, name)
            return bool(getattr(given, name)) if own is None else own

        native = flag("scrape_native_histograms")
        return replace(
            self,
            scrape_interval=interval,
            scrape_timeout=timeout,
            scrape_protocols=self.scrape_protocols or given.scrape_protocols or (_NATIVE_PROTOCOLS if native else _DEFAULT_PROTOCOLS),
            scrape_native_histograms=native,
            always_scrape_classic_histograms=flag("always_scrape_classic_histograms") or self.scrape_classic_histograms,
            convert_classic_histograms_to_nhcb=flag("convert_classic_histograms_to_nhcb"),
            body_size_limit=either("body_size_limit"),
            sample_limit=either("sample_limit"),
            target_limit=either("target_limit"),
            label_limit=either("label_limit"),
            label_name_length_limit=either("label_name_length_limit"),
            label_value_length_limit=either("label_value_length_limit"),
            keep_dropped_targets=either("keep_dropped_targets"),
            extra_scrape_metrics=flag("extra_scrape_metrics"),
            metric_name_validation_scheme=names,
            metric_name_escaping_scheme=escaping or ("allow-utf-8" if names == "utf8" else "underscores"),
        )

    def under(self, base: Path) -> ScrapeConfig:
        """The same with relative file names taken from `base`."""
        own = HttpConfig.under(self, base)
        return replace(
            own,
            file_sd_configs=tuple(replace(c, files=tuple(str(base / f) for f in c.files)) for c in self.file_sd_configs),
            http_sd_configs=tuple(c.under(base) for c in self.http_sd_configs),
        )


@dataclass(frozen=True, slots=True)
class ScrapeConfigFile:
    """A file that `scrape_config_files` names."""

    scrape_configs: tuple[ScrapeConfig, ...] = ()


@dataclass(frozen=True, slots=True)
class InternalTarget:
    """An exposition of this very process, scraped without HTTP: `read()` gives its text and runs in a thread.

    Job and instance are its identity: a reload that brings another `read` for them leaves the running one in place.
    """

    job: str
    instance: str
    read: Callable[[], bytes] = field(compare=False)
    interval_ms: int


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What this process collects by itself: its own metrics always, this machine's where `enabled`; `interval` in ms."""

    enabled: bool = True
    interval: int = option(15_000, convert=parse_duration)

    def __post_init__(self) -> None:
        if self.interval <= 0:
            raise BadInput("must be longer than nothing", where="interval")


@dataclass(frozen=True, slots=True)
class CollectConfig:
    """All that the collector is to do; `jobs` are filled in from `global`. Build it with `of`."""

    jobs: tuple[ScrapeConfig, ...] = ()
    internal: tuple[InternalTarget, ...] = field(default=())

    @classmethod
    def of(
        cls,
        given: GlobalConfig | None = None,
        scrape_configs: Sequence[ScrapeConfig] = (),
        *,
        files: Sequence[str] = (),
        base: Path = Path(),
        internal: Sequence[InternalTarget] = (),
        starts: bool = False,
    ) -> CollectConfig:
        """Join the sections of a file that lies in `base`; `files` are its `scrape_config_files`.

        `starts` asks for protobuf first where nothing else is said, since its start timestamps cost nothing to read.
        Raises `BadInput` for job names that occur twice, for a timeout beyond its interval, for a bad included file.
        """
        defaults = GlobalConfig() if given is None else given
        if starts and defaults.scrape_protocols is None:
            defaults = replace(defaults, scrape_protocols=_NATIVE_PROTOCOLS)
        jobs: dict[str, ScrapeConfig] = {}
        sources = [("scrape_configs", base, scrape_configs), *_included(files, base)]
        for source, directory, configs in sources:
            for config in configs:
                if config.job_name in jobs:
                    raise BadInput(f"found multiple scrape configs with job name {config.job_name!r}", where=source)
                try:
                    jobs[config.job_name] = config.with_global(defaults).under(directory)
                except BadInput as error:
                    raise BadInput(error.problem, where=f"{source}: {error.where}", hint=error.hint) from None
        return cls(tuple(jobs.values()), tuple(internal))


def _included(patterns: Sequence[str], base: Path) -> list[tuple[str, Path, Sequence[ScrapeConfig]]]:
    found: list[tuple[str, Path, Sequence[ScrapeConfig]]] = []
    for pattern in patterns:
        if not pattern.endswith((".yml", ".yaml")):
            raise BadInput(f"invalid scrape config file path {pattern!r}", where="scrape_config_files", hint="*.yml or *.yaml")
        for path in files_of(str(base / pattern)):
            found.append((str(path), path.parent, configfile.load(path, ScrapeConfigFile).scrape_configs))  # noqa: PERF401 - reads better
    return found


def files_of(pattern: str) -> list[Path]:
    """The files that a path with or without wildcards names, sorted; a path without any names itself, present or not."""
    if not glob.has_magic(pattern):
        return [Path(pattern)]
    return [Path(name) for name in sorted(glob.glob(pattern))]  # noqa: PTH207 - Path.glob refuses absolute patterns
