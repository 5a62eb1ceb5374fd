"""The route tree: which receivers an alert goes to, and how it is grouped on the way. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from vedette.model.labels import Labels
from vedette.model.matchers import Matcher, match_labels
from vedette.notify.config import GROUP_ALL, RouteConfig

GROUP_WAIT_MS = 30_000
GROUP_INTERVAL_MS = 5 * 60_000
REPEAT_INTERVAL_MS = 4 * 3_600_000


@dataclass(frozen=True, slots=True)
class Route:
    """A node with everything it inherits. `group_by` None groups by all labels; `key` is how receivers see the route."""

    key: str
    receiver: str
    group_by: frozenset[str] | None
    group_wait: int
    group_interval: int
    repeat_interval: int
    matchers: tuple[Matcher, ...] = ()
    goes_on: bool = False
    mute_time_intervals: tuple[str, ...] = ()
    active_time_intervals: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    """Texts of templates by their name, those of the parent included."""
    path: tuple[int, ...] = ()
    """Where it stands in the tree: what tells two routes with the same matchers apart."""

    def group_labels(self, labels: Labels) -> Labels:
        """The labels that name the group of an alert."""
        names = self.group_by
        return labels if names is None else Labels([p for p in labels if p[0] in names])

    def names(self) -> frozenset[str]:
        """The labels that it depends on which of these routes take an alert."""
        return frozenset(m.name for m in self.matchers).union(*(below.names() for below in self.routes))


_ROOT = Route("", "", frozenset(), GROUP_WAIT_MS, GROUP_INTERVAL_MS, REPEAT_INTERVAL_MS)


def build(config: RouteConfig, parent: Route = _ROOT, path: tuple[int, ...] = ()) -> Route:
    """The tree below a route as configured."""
    matchers = config.conditions()
    key = "{" + ",".join(map(str, matchers)) + "}"
    group_by = parent.group_by
    if config.group_by is not None:
        group_by = None if GROUP_ALL in config.group_by else frozenset(config.group_by)
    node = Route(
        key=f"{parent.key}/{key}" if path else key,
        receiver=config.receiver or parent.receiver,
        group_by=group_by,
        group_wait=parent.group_wait if config.group_wait is None else config.group_wait,
        group_interval=config.group_interval or parent.group_interval,
        repeat_interval=config.repeat_interval or parent.repeat_interval,
        matchers=matchers,
        goes_on=config.continue_,
        # Not inherited, as in Alertmanager: a child says itself when it is quiet.
        mute_time_intervals=config.mute_time_intervals,
        active_time_intervals=config.active_time_intervals,
        labels=tuple({**dict(parent.labels), **config.labels}.items()),
        path=path,
    )
    below = tuple(build(child, node, (*path, i)) for i, child in enumerate(config.routes))
    return Route(**{**{name: getattr(node, name) for name in Route.__dataclass_fields__}, "routes": below})


def match(route: Route, labels: Labels) -> list[Route]:
    """The deepest routes that take an alert, in order of the tree; empty where `route` itself does not."""
    if not match_labels(route.matchers, labels):
        return []
    found: list[Route] = []
    for below in route.routes:
        taken = match(below, labels)
        found += taken
        if taken and not below.goes_on:
            break
    return found or [route]
