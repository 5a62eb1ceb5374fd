"""This machine, under node_exporter's names, so that dashboards and alerts made for it work on what Vedette itself sees.

`read_host` is one exposition of CPU, memory, filesystems, disks, network and kernel figures. Only what the system tells
is written: a part that it does not have, or that cannot be read, is absent and `node_scrape_collector_success` says so.
psutil is asked for most; Linux' memory figures come from /proc/meminfo, since psutil adds reclaimable slab to the page
cache. Not here: file systems of other machines (their servers can hang a reader for ever) and hardware sensors.
"""

from __future__ import annotations

import os
import platform
import re
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from vedette.collect.config import InternalTarget
from vedette.model.labels import quote
from vedette.wire.exposition import format_value

_PROC = Path("/proc")
_SKIP_MOUNTS = re.compile(r"/(dev|proc|sys|run/credentials/.+|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)")
_SKIP_TYPES = re.compile(
    r"(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660|mqueue|nsfs|overlay|proc|procfs|"
    r"pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|erofs|sysfs|tracefs|nfs4?|cifs|smb3?|smbfs|afs|ceph|9p|fuse\..*)\Z"
)
_SKIP_DISKS = re.compile(r"(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+\Z")


class _Text:
    """Exposition text in the making."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def family(self, name: str, kind: str, about: str) -> None:
        """Begin a metric."""
        self.lines += [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]

    def sample(self, name: str, value: float, labels: Mapping[str, str] | None = None) -> None:
        """One sample."""
        inner = ",".join(f"{n}={quote(v)}" for n, v in (labels or {}).items())
        self.lines.append(f"{name}{{{inner}}} {format_value(float(value))}" if inner else f"{name} {format_value(float(value))}")

    def one(self, name: str, kind: str, about: str, value: float) -> None:
        """A metric of one sample without labels."""
        self.family(name, kind, about)
        self.sample(name, value)


def read_host() -> bytes:
    """This machine now, as text 0.0.4. Blocks for some milliseconds: call it in a thread."""
    text = _Text()
    success: dict[str, tuple[float, float]] = {}
    for name, part in _PARTS.items():
        start = time.perf_counter()
        before = len(text.lines)
        try:
            part(text)
            good = 1.0
        except (OSError, psutil.Error, NotImplementedError, AttributeError):
            # A platform that lacks a figure says so by any of these; half a part would be worse than none.
            del text.lines[before:]
            good = 0.0
        success[name] = (good, time.perf_counter() - start)
    text.family("node_scrape_collector_success", "gauge", "Whether a part of this exposition could be read.")
    for name, (good, _) in success.items():
        text.sample("node_scrape_collector_success", good, {"collector": name})
    text.family("node_scrape_collector_duration_seconds", "gauge", "How long a part of this exposition took.")
    for name, (_, seconds) in success.items():
        text.sample("node_scrape_collector_duration_seconds", seconds, {"collector": name})
    return ("\n".join(text.lines) + "\n").encode("utf-8", "replace")


def host_target(interval_ms: int, *, instance: str | None = None) -> InternalTarget:
    """The internal target of job `node`; `instance` is the machine's name unless given."""
    return InternalTarget("node", socket.gethostname() if instance is None else instance, read_host, interval_ms)


def _cpu(text: _Text) -> None:
    text.family("node_cpu_seconds_total", "counter", "Seconds the CPUs spent in each mode.")
    guests = []
    for number, times in enumerate(psutil.cpu_times(percpu=True)):
        for mode, seconds in times._asdict().items():
            if mode.startswith("guest"):
                guests.append((number, "user" if mode == "guest" else "nice", seconds))
            else:
                text.sample("node_cpu_seconds_total", seconds, {"cpu": str(number), "mode": mode})
    if guests:
        text.family("node_cpu_guest_seconds_total", "counter", "Seconds the CPUs spent in guests (VMs) for each mode.")
        for number, mode, seconds in guests:
            text.sample("node_cpu_guest_seconds_total", seconds, {"cpu": str(number), "mode": mode})


def _stat(text: _Text) -> None:
    stats = psutil.cpu_stats()
    text.one("node_context_switches_total", "counter", "Total number of context switches.", stats.ctx_switches)
    text.one("node_intr_total", "counter", "Total number of interrupts serviced.", stats.interrupts)
    text.one("node_boot_time_seconds", "gauge", "Node boot time, in unixtime.", psutil.boot_time())
    names = {
        "processes": ("node_forks_total", "counter", "Total number of forks."),
        "procs_running": ("node_procs_running", "gauge", "Number of processes in runnable state."),
        "procs_blocked": ("node_procs_blocked", "gauge", "Number of processes blocked waiting for I/O to complete."),
    }
    if (_PROC / "stat").exists():
        for line in (_PROC / "stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name in names:
                text.one(*names[name], float(value))


def _memory(text: _Text) -> None:
    if (_PROC / "meminfo").exists():
        for line in (_PROC / "meminfo").read_text().splitlines():
            name, _, rest = line.partition(":")
            value, _, unit = rest.strip().partition(" ")
            name = re.sub(r"\((.*)\)", r"_\1", name)
            full, factor = (f"node_memory_{name}_bytes", 1024) if unit == "kB" else (f"node_memory_{name}", 1)
            text.one(full, "gauge", f"Memory information field {name}.", float(value) * factor)
        return
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    fields: dict[str, int] = {"MemTotal": memory.total, "MemAvailable": memory.available, "MemFree": memory.free}
    fields |= {"SwapTotal": swap.total, "SwapFree": swap.free}
    for name, size in fields.items():
        text.one(f"node_memory_{name}_bytes", "gauge", f"Memory information field {name}.", size)


def _filesystems(text: _Text) -> None:
    rows: dict[tuple[str, str, str], tuple[float, float, float, float, float, float]] = {}
    for part in psutil.disk_partitions(all=True):
        root = part.mountpoint == "/"
        if not root and (_SKIP_TYPES.match(part.fstype) or _SKIP_MOUNTS.match(part.mountpoint)):
            continue
        if not Path(part.mountpoint).is_dir():
            continue  # a file mounted into a container: the same file system once more
        try:
            size, free, available, files, files_free = _space(part.mountpoint)
        except OSError:
            continue  # not ours to look into
        if size == 0:
            continue
        readonly = 1.0 if "ro" in part.opts.split(",") else 0.0
        rows[(part.device, part.fstype, part.mountpoint)] = (size, free, available, files, files_free, readonly)
    columns = (
        ("node_filesystem_size_bytes", "Filesystem size in bytes."),
        ("node_filesystem_free_bytes", "Filesystem free space in bytes."),
        ("node_filesystem_avail_bytes", "Filesystem space available to non-root users in bytes."),
        ("node_filesystem_files", "Filesystem total file nodes."),
        ("node_filesystem_files_free", "Filesystem total free file nodes."),
        ("node_filesystem_readonly", "Filesystem read-only status."),
    )
    for i, (name, about) in enumerate(columns):
        text.family(name, "gauge", about)
        for (device, fstype, mountpoint), row in rows.items():
            if row[i] >= 0:
                text.sample(name, row[i], {"device": device, "fstype": fstype, "mountpoint": mountpoint})


def _space(mountpoint: str) -> tuple[float, float, float, float, float]:
    """Size, free, available in bytes, file nodes and free ones (-1 where the platform has none)."""
    if not hasattr(os, "statvfs"):
        usage = psutil.disk_usage(mountpoint)
        return usage.total, usage.free, usage.free, -1.0, -1.0
    s = os.statvfs(mountpoint)
    return s.f_blocks * s.f_frsize, s.f_bfree * s.f_frsize, s.f_bavail * s.f_frsize, s.f_files, s.f_ffree


def _disks(text: _Text) -> None:
    columns = (
        ("node_disk_reads_completed_total", "read_count", 1.0, "The total number of reads completed successfully."),
        ("node_disk_reads_merged_total", "read_merged_count", 1.0, "The total number of reads merged."),
        ("node_disk_read_bytes_total", "read_bytes", 1.0, "The total number of bytes read successfully."),
        ("node_disk_read_time_seconds_total", "read_time", 0.001, "The total number of seconds spent by all reads."),
        ("node_disk_writes_completed_total", "write_count", 1.0, "The total number of writes completed successfully."),
        ("node_disk_writes_merged_total", "write_merged_count", 1.0, "The number of writes merged."),
        ("node_disk_written_bytes_total", "write_bytes", 1.0, "The total number of bytes written successfully."),
        ("node_disk_write_time_seconds_total", "write_time", 0.001, "The total number of seconds spent by all writes."),
        ("node_disk_io_time_seconds_total", "busy_time", 0.001, "Total seconds spent doing I/Os."),
    )
    disks = {n: c for n, c in (psutil.disk_io_counters(perdisk=True) or {}).items() if not _SKIP_DISKS.match(n)}
    for name, field, factor, about in columns:
        present = {device: getattr(c, field) for device, c in disks.items() if hasattr(c, field)}
        if present:
            text.family(name, "counter", about)
        for device, value in present.items():
            text.sample(name, value * factor, {"device": device})


def _network(text: _Text) -> None:
    columns = (
        ("node_network_receive_bytes_total", "bytes_recv"),
        ("node_network_receive_packets_total", "packets_recv"),
        ("node_network_receive_errs_total", "errin"),
        ("node_network_receive_drop_total", "dropin"),
        ("node_network_transmit_bytes_total", "bytes_sent"),
        ("node_network_transmit_packets_total", "packets_sent"),
        ("node_network_transmit_errs_total", "errout"),
        ("node_network_transmit_drop_total", "dropout"),
    )
    cards = psutil.net_io_counters(pernic=True)
    for name, field in columns:
        text.family(name, "counter", f"Network device statistic {name.removeprefix('node_network_').removesuffix('_total')}.")
        for device, counters in cards.items():
            text.sample(name, getattr(counters, field), {"device": device})
    states = psutil.net_if_stats()
    text.family("node_network_up", "gauge", "Value is 1 if the device is up, 0 otherwise.")
    for device, state in states.items():
        text.sample("node_network_up", 1.0 if state.isup else 0.0, {"device": device})
    text.family("node_network_mtu_bytes", "gauge", "The device's maximum transmission unit.")
    for device, state in states.items():
        text.sample("node_network_mtu_bytes", state.mtu, {"device": device})
    text.family("node_network_speed_bytes", "gauge", "The device's speed in bytes a second, where it is known.")
    for device, state in states.items():
        if state.speed > 0:
            text.sample("node_network_speed_bytes", state.speed * 125_000, {"device": device})


def _load(text: _Text) -> None:
    for minutes, value in zip((1, 5, 15), psutil.getloadavg(), strict=True):
        text.one(f"node_load{minutes}", "gauge", f"{minutes}m load average.", value)


def _files(text: _Text) -> None:
    allocated, _, maximum = (_PROC / "sys/fs/file-nr").read_text().split()
    text.one("node_filefd_allocated", "gauge", "File descriptor statistics: allocated.", float(allocated))
    text.one("node_filefd_maximum", "gauge", "File descriptor statistics: maximum.", float(maximum))


def _uname(text: _Text) -> None:
    name = platform.uname()
    text.family("node_uname_info", "gauge", "Labeled system information as provided by the uname system call.")
    labels = {"machine": name.machine, "nodename": name.node, "release": name.release, "sysname": name.system, "version": name.version}
    text.sample("node_uname_info", 1.0, labels)


def _time(text: _Text) -> None:
    # The wall clock is itself what is measured here, so it is not an argument.
    text.one("node_time_seconds", "gauge", "System time in seconds since epoch (1970).", time.time())


_PARTS: dict[str, Callable[[_Text], None]] = {
    "cpu": _cpu,
    "stat": _stat,
    "meminfo": _memory,
    "filesystem": _filesystems,
    "diskstats": _disks,
    "netdev": _network,
    "loadavg": _load,
    "filefd": _files,
    "uname": _uname,
    "time": _time,
}
