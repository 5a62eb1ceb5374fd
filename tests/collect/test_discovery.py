"""Targets from files that change and from a URL."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vedette.clock import ManualClock
from vedette.collect.collector import Collector
from vedette.collect.config import CollectConfig, FileDiscoveryConfig, HttpDiscoveryConfig, ScrapeConfig
from vedette.collect.discovery import FileSource, HttpSource, parse_groups
from vedette.errors import BadInput, Undeliverable


async def test_files_are_read_again_when_they_change(tmp_path: Path) -> None:
    source = FileSource(FileDiscoveryConfig(files=(str(tmp_path / "*.json"), str(tmp_path / "one.yml"))))
    assert await source.groups() is None, "nothing there and nothing new"
    (tmp_path / "a.json").write_text(json.dumps([{"targets": ["a:1", "a:2"], "labels": {"x": "y"}}]))
    found = await source.groups()
    assert found == [
        {"__address__": "a:1", "x": "y", "__meta_filepath": str(tmp_path / "a.json")},
        {"__address__": "a:2", "x": "y", "__meta_filepath": str(tmp_path / "a.json")},
    ]
    assert await source.groups() is None
    (tmp_path / "one.yml").write_text("- targets: [b]\n")
    assert [t["__address__"] for t in await source.groups() or []] == ["a:1", "a:2", "b"]
    (tmp_path / "a.json").write_text("[null]")
    assert [t["__address__"] for t in await source.groups() or []] == ["a:1", "a:2", "b"], "the last good ones stay"
    assert "lacks the key targets" in source.problem
    (tmp_path / "a.json").unlink()
    assert [t["__address__"] for t in await source.groups() or []] == ["b"]
    assert source.problem == ""


@pytest.mark.parametrize(
    "text", ["{}", "[1]", "[{targets: 3}]", "[{target: [a]}]", "[{targets: [a], labels: [b]}]", "[", "[{targets: [[a]]}]"]
)
def test_documents_that_are_none(text: str) -> None:
    with pytest.raises(BadInput, match=r"^f:[12]:[0-9]+: "):
        parse_groups(text.encode(), "f")


def answering(site: Any, status: str, body: str) -> Any:
    """A page of the site that answers with a status of its own."""

    async def page(path: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        site.answer(writer, body.encode(), status=status)

    return page


async def test_a_url_is_asked(site: Any) -> None:
    source = HttpSource(HttpDiscoveryConfig(url=f"http://{site.address}/sd", refresh_interval=30_000))
    site.kind = "application/json; charset=utf-8"
    site.pages["/sd"] = '[{"targets": ["a:1"], "labels": {"x": "y"}}]'
    assert await source.groups() == [{"__address__": "a:1", "x": "y", "__meta_url": f"http://{site.address}/sd"}]
    assert site.requests[0][2]["x-prometheus-refresh-interval-seconds"] == "30"
    # A server in trouble may answer JSON, too, and an empty list would end all scraping.
    site.pages["/sd"] = answering(site, "503 Service Unavailable", "[]")
    with pytest.raises(Undeliverable, match="503"):
        await source.groups()
    site.pages["/sd"] = "{"
    with pytest.raises(BadInput):
        await source.groups()
    site.kind = "text/plain"
    with pytest.raises(Undeliverable, match="unsupported content type 'text/plain'"):
        await source.groups()
    await source.close()


async def test_targets_come_and_go_with_the_file(site: Any, memory: Any, until: Any, tmp_path: Path) -> None:
    site.pages["/metrics"] = "a 1\n"
    file = tmp_path / "t.json"
    file.write_text(json.dumps([{"targets": [site.address]}]))
    job = ScrapeConfig(job_name="j", scrape_interval=5000, scrape_timeout=5000, file_sd_configs=(FileDiscoveryConfig(files=(str(file),)),))
    clock = ManualClock()
    collector = Collector(memory.append, clock)
    await collector.apply(CollectConfig.of(scrape_configs=[job]))
    assert [s.discovered.get("__meta_filepath") for s in collector.targets()] == [str(file)], "known at once"
    await clock.advance(5)
    await until(lambda: memory.of("up"))
    file.write_text("[]")
    await clock.advance(5)
    await until(lambda: not collector.targets())
    await until(lambda: memory.of("up")[-1] == "stale")
    assert memory.of("a")[-1] == "stale"
    await collector.close()


async def test_a_reload_keeps_what_a_url_said(site: Any, memory: Any, until: Any) -> None:
    site.kind = "application/json"
    site.pages["/sd"] = '[{"targets": ["127.0.0.1:1"]}]'
    job = ScrapeConfig(job_name="j", http_sd_configs=(HttpDiscoveryConfig(url=f"http://{site.address}/sd"),))
    collector = Collector(memory.append, ManualClock())
    await collector.apply(CollectConfig.of(scrape_configs=[job]))
    await until(collector.targets)
    files = (FileDiscoveryConfig(files=("nowhere.json",)),)
    await collector.apply(CollectConfig.of(scrape_configs=[replace(job, file_sd_configs=files)]))
    assert [s.url for s in collector.targets()] == ["http://127.0.0.1:1/metrics"]
    await collector.apply(CollectConfig.of(scrape_configs=[replace(job, http_sd_configs=())]))
    assert collector.targets() == []
    await collector.close()


async def test_a_discovery_that_fails_keeps_its_targets_and_is_counted(site: Any, memory: Any, until: Any) -> None:
    site.kind = "application/json"
    site.pages["/sd"] = '[{"targets": ["127.0.0.1:1"]}]'
    job = ScrapeConfig(job_name="j", http_sd_configs=(HttpDiscoveryConfig(url=f"http://{site.address}/sd", refresh_interval=5000),))
    clock = ManualClock()
    collector = Collector(memory.append, clock)
    await collector.apply(CollectConfig.of(scrape_configs=[job]))
    await until(collector.targets)
    site.pages["/sd"] = "["
    await clock.advance(5)
    await until(lambda: collector.failures)
    assert len(collector.targets()) == 1
    await collector.close()
