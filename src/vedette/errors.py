"""The five error families. Everything Vedette refuses is one of them; a programming fault is an `assert`.

No family knows HTTP: `api/problems.py` gives each its status and shape in each dialect, and the
command line gives each its exit status. Not here: the errors of third-party libraries, which are
caught where they arise and re-raised as one of these.
"""

from __future__ import annotations

from pathlib import Path


class VedetteError(Exception):
    """The common root, for the few edges that turn any refusal into an answer."""


class BadInput(VedetteError):
    """What came in cannot be accepted, and sending it again will not help.

    `where` is a position a reader can go to (`rules.yml:12: groups[0].interval`, `1:8`, `byte 512`),
    `problem` says what is wrong there, `hint` what was expected or what to do.
    """

    def __init__(self, problem: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(problem, where, hint)
        self.problem = problem
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.problem}" if self.where else self.problem
        return f"{text} ({self.hint})" if self.hint else text


class NotFound(VedetteError):
    """The thing asked for does not exist, or the caller may not know that it does."""


class LimitExceeded(VedetteError):
    """A stated limit was reached. `retry_after` is in seconds; None means that waiting will not help."""

    def __init__(self, problem: str, *, retry_after: float | None = None) -> None:
        super().__init__(problem)
        self.retry_after = retry_after


class Unreachable(LimitExceeded):
    """A database that the server stands on does not answer, or takes nothing now. It is asked again by whoever needs it."""


class Undeliverable(VedetteError):
    """Something outside did not take what we sent, or did not answer.

    `reason` comes from a closed set, since it becomes a metric label: `timeout`, `refused`, `dns`,
    `tls`, `status`, `too_large`, `redirects`, `address`, `protocol`, `template`, `credentials`.
    """

    def __init__(self, problem: str, *, reason: str, retryable: bool, retry_after: float | None = None) -> None:
        super().__init__(problem)
        self.reason = reason
        self.retryable = retryable
        self.retry_after = retry_after


class Corrupt(VedetteError):
    """Stored bytes are not what was written. `offset` is in bytes from the start of `path`."""

    def __init__(self, problem: str, *, path: Path, offset: int) -> None:
        super().__init__(f"{path}: byte {offset}: {problem}")
        self.path = path
        self.offset = offset
