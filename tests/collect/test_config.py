"""`global` and `scrape_configs`: what they come to, what is refused, and upstream's own files."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vedette import configfile
from vedette.collect.config import CollectConfig, GlobalConfig, ScrapeConfig, parse_size
from vedette.collect.targets import targets_of
from vedette.configfile import option
from vedette.errors import BadInput

CONFORMANCE = Path(os.environ.get("VEDETTE_CONFORMANCE", Path(__file__).parents[2] / "../shared/conformance"))
FILES = CONFORMANCE / "prometheus_prometheus/config/testdata"


@dataclass(frozen=True, slots=True)
class File:
    """A `prometheus.yml` of which only our sections are looked into."""

    global_: GlobalConfig = option(factory=GlobalConfig, key="global")
    scrape_configs: tuple[ScrapeConfig, ...] = ()
    scrape_config_files: tuple[str, ...] = ()
    rule_files: Any = None
    remote_write: Any = None
    remote_read: Any = None
    alerting: Any = None
    storage: Any = None
    tracing: Any = None
    otlp: Any = None
    runtime: Any = None


def read(text: str, base: Path = Path()) -> CollectConfig:
    file = configfile.parse(text, File, name="p.yml")
    return CollectConfig.of(file.global_, file.scrape_configs, files=file.scrape_config_files, base=base)


def test_defaults_come_from_global() -> None:
    text = """
global: {scrape_interval: 20s, scrape_timeout: 15s, sample_limit: 7, body_size_limit: 15MB}
scrape_configs:
  - {job_name: plain}
  - {job_name: own, scrape_interval: 5s, sample_limit: 0, body_size_limit: 1KB, scheme: https, metrics_path: /m}
"""
    plain, own = read(text).jobs
    assert (plain.scrape_interval, plain.scrape_timeout, plain.sample_limit, plain.body_size_limit) == (20_000, 15_000, 7, 15 << 20)
    assert (own.scrape_interval, own.scrape_timeout, own.sample_limit, own.body_size_limit) == (5000, 5000, 0, 1024)
    assert (plain.scheme, plain.metrics_path, own.scheme, own.metrics_path) == ("http", "/metrics", "https", "/m")
    bare = read("scrape_configs: [{job_name: a}]").jobs[0]
    assert (bare.scrape_interval, bare.scrape_timeout) == (60_000, 10_000)


def test_file_names_are_taken_from_the_files_directory(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more/a.yml").write_text("scrape_configs: [{job_name: a, authorization: {credentials_file: token}}]")
    (tmp_path / "more/b.yml").write_text("scrape_configs: [{job_name: b, file_sd_configs: [{files: ['x/*.json']}]}]")
    text = "scrape_config_files: ['more/*.yml']\nscrape_configs: [{job_name: c, tls_config: {ca_file: ca.pem}}]"
    c, a, b = read(text, tmp_path).jobs
    assert a.authorization is not None
    assert a.authorization.credentials_file == str(tmp_path / "more/token")
    assert b.file_sd_configs[0].files == (str(tmp_path / "more/x/*.json"),)
    assert c.tls_config.ca_file == str(tmp_path / "ca.pem")


def test_a_time_of_zero_is_as_if_nothing_were_said(tmp_path: Path) -> None:
    """As Prometheus has it, and promtool finds nothing wrong with."""
    zeros = "scrape_interval: 0s, scrape_timeout: 0"
    (job,) = read(f"global: {{{zeros}, evaluation_interval: 0s}}\nscrape_configs: [{{job_name: a, {zeros}}}]", tmp_path).jobs
    assert (job.scrape_interval, job.scrape_timeout) == (60_000, 10_000)
    (job,) = read(f"global: {{scrape_interval: 5s, scrape_timeout: 2s}}\nscrape_configs: [{{job_name: a, {zeros}}}]", tmp_path).jobs
    assert (job.scrape_interval, job.scrape_timeout) == (5000, 2000)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("scrape_configs: [{job_name: a, scrape_interval: 5x}]", "p.yml:1:49: scrape_configs[0].scrape_interval: not a valid duration"),
        ("scrape_configs: [{job_name: a, http_sd_configs: [{url: 'http://h/', refresh_interval: 0s}]}]", "must be longer than 0s"),
        ("scrape_configs: [{job_name: a, scrape_interval: 5s, scrape_timeout: 6s}]", "scrape timeout greater than scrape interval"),
        ("global: {scrape_interval: 5s, scrape_timeout: 6s}", "global scrape timeout greater than scrape interval"),
        ("scrape_configs: [{job_name: a}, {job_name: a}]", "found multiple scrape configs with job name 'a'"),
        ("scrape_configs: [{}]", "lacks the key job_name"),
        ("scrape_configs: [{job_name: a, scheme: gopher}]", "'gopher' is not one of the choices"),
        ("scrape_configs: [{job_name: a, sample_limit: -1}]", "'-1' where a whole number from 0 is expected"),
        ("scrape_configs: [{job_name: a, body_size_limit: 100}]", "not a valid size: '100'"),
        ("scrape_configs: [{job_name: a, metric_path: /x}]", "did you mean metrics_path?"),
        ("scrape_configs: [{job_name: a, kubernetes_sd_configs: []}]", "this service discovery is not supported yet"),
        ("scrape_configs: [{job_name: a, static_configs: [{targets: ['http://a']}]}]", "'http://a' is not a valid hostname"),
        ("scrape_configs: [{job_name: a, static_configs: [{labels: {a: b}}]}]", "lacks the key targets"),
        ("scrape_configs: [{job_name: a, file_sd_configs: [{files: [a.txt]}]}]", "path name 'a.txt' is not valid for file discovery"),
        ("scrape_configs: [{job_name: a, file_sd_configs: [{files: []}]}]", "must contain at least one path name"),
        ("scrape_configs: [{job_name: a, http_sd_configs: [{url: 'http://'}]}]", "host is missing in URL"),
        ("scrape_configs: [{job_name: a, scrape_protocols: [Smoke]}]", "unknown scrape protocol 'Smoke'"),
        ("scrape_config_files: [a.json]", "invalid scrape config file path 'a.json'"),
        ("scrape_config_files: [absent.yml]", "absent.yml: cannot be read"),
    ],
)
def test_what_is_refused(text: str, problem: str) -> None:
    with pytest.raises(BadInput) as caught:
        read(text)
    assert problem in str(caught.value)


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("512B", 512), ("15MB", 15 << 20), ("1.5KiB", 1536), ("2G", 2 << 30)])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


# Sections that are not ours to judge, and what is refused with a reason of its own: discoveries, OAuth 2.0, proxies.
_OTHERS = ("remote_", "rules", "tracing", "tsdb", "otlp", "empty_alert", "empty_rw", "empty_rr", "agent_mode", "external_labels")


def cases() -> list[dict[str, Any]]:
    expected = CONFORMANCE / "derived/prometheus_config_expected.json"
    if not expected.is_file():
        return []
    found = json.loads(expected.read_text())["cases"]
    return [c for c in found if c["expect"] in ("ok", "error") and not c["file"].startswith(_OTHERS) and (FILES / c["file"]).is_file()]


@pytest.mark.skipif(not FILES.is_dir(), reason=f"no conformance data at {FILES}: set VEDETTE_CONFORMANCE")
def test_upstreams_files() -> None:
    judged = cases()
    assert len(judged) > 80
    wrong, beyond = [], 0
    for case in judged:
        try:
            file = configfile.load(FILES / case["file"], File)
            missing = [f for f in file.scrape_config_files if "*" not in f and not (FILES / f).is_file()]
            if missing:
                continue  # the corpus here is a part: the included file is in the rest
            CollectConfig.of(file.global_, file.scrape_configs, files=file.scrape_config_files, base=FILES)
            got = "ok"
        except BadInput as error:
            if "not supported" in str(error):
                beyond += 1
                continue
            got = "error"
        if got != case["expect"]:
            wrong.append((case["file"], got))
    assert wrong == []
    assert len(judged) - beyond > 40


@pytest.mark.skipif(not FILES.is_dir(), reason=f"no conformance data at {FILES}: set VEDETTE_CONFORMANCE")
def test_upstreams_large_file_without_its_other_discoveries() -> None:
    root = configfile.plain(configfile.compose((FILES / "conf.good.yml").read_bytes()))  # type: ignore[arg-type]
    for job in root["scrape_configs"]:
        for key in [k for k in job if k in ScrapeConfig.UNSUPPORTED]:
            del job[key]
    file = configfile.parse(json.dumps(root), File)
    found = {job.job_name: job for job in CollectConfig.of(file.global_, file.scrape_configs, base=FILES).jobs}
    assert len(found) == len(root["scrape_configs"])
    first = found["prometheus"]
    assert first.honor_labels and first.fallback_scrape_protocol == "PrometheusText0.0.4"
    assert (first.sample_limit, first.body_size_limit, found["service-x"].body_size_limit) == (1500, 15 << 20, 10 << 20)
    targets, dropped = targets_of(found["badfederation"], [{"__address__": "localhost:9090"}])
    assert (targets[0].url, dropped) == ("http://localhost:9090/federate", [])
