"""The settings of what stands around every request: tracing."""

from __future__ import annotations

from dataclasses import dataclass

from vedette.configfile import option
from vedette.errors import BadInput


@dataclass(frozen=True, slots=True)
class TracingSettings:
    """Whether requests are traced, and where their spans go."""

    enabled: bool = False
    """Give every request a span in a trace, answer `traceparent`, and name the trace in log lines."""
    endpoint: str = ""
    """Where spans go: the URL that takes OTLP/HTTP traces, such as `http://localhost:4318/v1/traces`. Empty: nowhere."""
    sample: float = 1.0
    """Which part of the requests is sent there, where the caller did not decide: from 0 to 1."""
    service: str = "vedette"
    """The `service.name` of the spans."""
    headers: dict[str, str] = option(factory=dict, secret=True)
    """Sent with them: a collector's key, say."""

    def __post_init__(self) -> None:
        if not 0 <= self.sample <= 1:
            raise BadInput(f"{self.sample} where 0 to 1 is expected", where="sample")
        if self.endpoint and not self.endpoint.startswith(("http://", "https://")):
            raise BadInput(f"not a URL: {self.endpoint!r}", where="endpoint", hint="expected http://HOST:4318/v1/traces")
        if self.endpoint and not self.enabled:
            raise BadInput("spans have somewhere to go, but there are none", where="endpoint", hint="set tracing.enabled, too")
