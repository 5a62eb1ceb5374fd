"""Programs of this machine: by the name of a process, by the port that it listens on, by its systemd unit."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import psutil

from vedette.health.check import DEGRADED, HEALTHY, UNHEALTHY, Finding

_UNIT_STATES = {"active": HEALTHY, "reloading": HEALTHY, "activating": DEGRADED, "deactivating": DEGRADED}


async def process(name: str, _timeout_s: float) -> Finding:
    """A running process of that name, the one that has run longest."""
    return await asyncio.to_thread(_process, name)


def _process(name: str) -> Finding:
    found = [p.info for p in psutil.process_iter(["name", "pid", "create_time", "status"]) if p.info["name"] == name]
    living = [i for i in found if i["status"] not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)]
    if not living:
        return Finding(UNHEALTHY, f"no process {name}" if not found else f"process {name} is a zombie")
    first = min(living, key=lambda info: info["create_time"])
    figures = {"pid": first["pid"], "uptime_seconds": max(0, int(time.time() - first["create_time"])), "processes": len(living)}
    return Finding(HEALTHY, "", figures)


async def port(number: str, _timeout_s: float) -> Finding:
    """A process of this machine that listens on a TCP port; who it is, as far as this user may know."""
    return await asyncio.to_thread(_port, int(number))


def _port(number: int) -> Finding:
    try:
        listening = [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == number]
    except psutil.AccessDenied:  # macOS
        with socket.socket() as probe:
            probe.settimeout(1)
            return (
                Finding(HEALTHY) if probe.connect_ex(("127.0.0.1", number)) == 0 else Finding(UNHEALTHY, f"nobody listens on port {number}")
            )
    if not listening:
        return Finding(UNHEALTHY, f"nobody listens on port {number}")
    figures: dict[str, Any] = {"port": number}
    pid = next((c.pid for c in listening if c.pid), None)
    if pid is not None:
        try:
            owner = psutil.Process(pid)
            figures |= {"pid": pid, "process": owner.name(), "uptime_seconds": max(0, int(time.time() - owner.create_time()))}
        except psutil.Error:
            pass  # it ended just now, or is somebody else's
    return Finding(HEALTHY, "", figures)


async def unit(name: str, timeout_s: float) -> Finding:
    """A systemd unit, as `systemctl show` tells."""
    arguments = ("show", "--property=ActiveState,SubState,MainPID,LoadState", "--", name)
    try:
        done = await asyncio.create_subprocess_exec(
            "systemctl", *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except OSError:
        return Finding(UNHEALTHY, "this machine has no systemctl")
    try:
        async with asyncio.timeout(timeout_s):
            out, _ = await done.communicate()
    except TimeoutError:
        done.kill()
        await done.wait()
        return Finding(UNHEALTHY, f"systemctl did not answer within {timeout_s:g}s")
    return unit_finding(name, out.decode("utf-8", "replace"))


def unit_finding(name: str, text: str) -> Finding:
    """What `systemctl show` printed."""
    shown = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if not shown:
        return Finding(UNHEALTHY, "systemd does not answer")
    if shown.get("LoadState") == "not-found":
        return Finding(UNHEALTHY, f"there is no unit {name}")
    active = shown.get("ActiveState", "unknown")
    pid = int(shown.get("MainPID", "0") or 0)
    figures = {"state": f"{active} ({shown.get('SubState', '')})", **({"pid": pid} if pid else {})}
    status = _UNIT_STATES.get(active, UNHEALTHY)
    return Finding(status, "" if status == HEALTHY else f"the unit is {active}", figures)
