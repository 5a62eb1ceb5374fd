"""The settings of health: what is probed, how often, for how long."""

from __future__ import annotations

from dataclasses import dataclass

from vedette.configfile import option
from vedette.errors import BadInput
from vedette.model.durations import parse_duration

KINDS = ("http", "tcp", "redis", "postgres", "llm", "process", "port", "unit")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSettings:
    """One dependency. What `target` is depends on the kind: a URL, `HOST:PORT`, the name of a process, a port, a systemd unit."""

    kind: str
    target: str = option(secret=True)
    """A URL may hold a password."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise BadInput(f"not a kind of check: {self.kind!r}", where="kind", hint="expected one of " + ", ".join(KINDS))
        if not self.target:
            raise BadInput("there is nothing to ask", where="target")
        scheme = {"http": ("http://", "https://"), "llm": ("http://", "https://"), "redis": ("redis://", "rediss://")}.get(self.kind)
        if scheme is not None and not self.target.startswith(scheme):
            raise BadInput(f"not a URL that begins with {' or '.join(scheme)}", where="target")
        if self.kind == "tcp" and not self.target.rpartition(":")[2].isdigit():
            raise BadInput("no port", where="target", hint="expected HOST:PORT")
        if self.kind == "port" and not (self.target.isdigit() and 0 < int(self.target) < 65536):
            raise BadInput(f"not a port: {self.target!r}", where="target")


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """What is watched. Times are ms."""

    interval: int = option(15_000, convert=parse_duration)
    """How often each dependency is asked."""
    timeout: int = option(5_000, convert=parse_duration)
    """After how long it counts as not answering."""
    database_url: str = option("", secret=True)
    """The applications' PostgreSQL; empty: the database of the records, where that is one."""
    cache_url: str = option("", secret=True)
    """A Redis or Valkey: `redis://HOST:PORT/0`."""
    llm_url: str = option("", secret=True)
    """A language model's server: llama.cpp's, or one that speaks OpenAI's API."""
    checks: dict[str, CheckSettings] = option(factory=dict)
    """Further dependencies, by name."""

    def __post_init__(self) -> None:
        for name in ("interval", "timeout"):
            if getattr(self, name) < 100:
                raise BadInput("shorter than 100 ms", where=name)

    def all_checks(self) -> dict[str, CheckSettings]:
        """Every dependency by its name, those of the document first."""
        named = (("database", "postgres", self.database_url), ("cache", "redis", self.cache_url), ("llm", "llm", self.llm_url))
        return {**{name: CheckSettings(kind=kind, target=url) for name, kind, url in named if url}, **self.checks}
