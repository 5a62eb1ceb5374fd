// What the overview asks: panels and tiles as data, each a few PromQL expressions with a unit.
// `$host` stands for a matcher of the chosen host, `$rate` for a window that holds enough samples for a rate.
// A panel all of whose expressions answer nothing is left out where it is `optional`, and says so where it is not.

import { GREY } from "./parts/plot.js";

const DISKS = 'device!~"(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme[0-9]+n[0-9]+p)[0-9]+"';
const NICS = 'device!~"lo|veth.*|docker.*|br-.*|cni.*|cali.*|flannel.*|virbr.*|ifb.*"';
const FILESYSTEMS = [
  'fstype!~"tmpfs|devtmpfs|ramfs|squashfs|iso9660|efivarfs|fuse.*|nsfs|proc|sysfs|cgroup.*"',
  'mountpoint!~"/(etc|proc|sys|dev|run|var/lib/(docker|kubelet))/.*"',
].join();

// How full each filesystem is, 0 to 1.
const FULLNESS = `1 - node_filesystem_avail_bytes{${FILESYSTEMS},$host} / node_filesystem_size_bytes{${FILESYSTEMS},$host}`;

// How busy all processors are, in percent of the time that was counted: the idle part alone would take the minutes before the first
// sample for busy ones.
const CPU_BUSY =
  '100 * (1 - sum(rate(node_cpu_seconds_total{mode="idle",$host}[$rate])) / sum(rate(node_cpu_seconds_total{$host}[$rate])))';
const FULLEST = `100 * max(${FULLNESS})`;

// Figures of now. `detail` is a second expression for the small print, `of` formats it; `bad` and `warn` are thresholds.
export const TILES = [
  {
    title: "CPU",
    unit: "percent",
    expr: CPU_BUSY,
    detail: 'count(node_cpu_seconds_total{mode="idle",$host})',
    of: (n) => `${n} ${n === 1 ? "core" : "cores"}`,
    warn: 80,
    bad: 95,
    ceiling: 100,
  },
  {
    title: "Memory",
    unit: "percent",
    expr: "100 * (1 - sum(node_memory_MemAvailable_bytes{$host}) / sum(node_memory_MemTotal_bytes{$host}))",
    detail: "sum(node_memory_MemTotal_bytes{$host})",
    of: (n, format) => `of ${format(n, "bytes")}`,
    warn: 80,
    bad: 95,
    ceiling: 100,
  },
  {
    title: "Fullest disk",
    unit: "percent",
    expr: FULLEST,
    detail: `sum(max by (device) (node_filesystem_avail_bytes{${FILESYSTEMS},$host}))`,
    of: (n, format) => `${format(n, "bytes")} free in all`,
    warn: 80,
    bad: 95,
    ceiling: 100,
  },
  {
    title: "Busiest disk",
    unit: "percent",
    expr: `100 * max(rate(node_disk_io_time_seconds_total{${DISKS},$host}[$rate]))`,
    detail: `count(node_disk_io_time_seconds_total{${DISKS},$host})`,
    of: (n) => `of ${n} ${n === 1 ? "disk" : "disks"}`,
    warn: 80,
    bad: 95,
    ceiling: 100,
  },
  {
    title: "Load",
    unit: "plain",
    expr: "sum(node_load1{$host})",
    detail: "sum(node_load15{$host})",
    of: (n, format) => `${format(n)} over 15 min`,
  },
  {
    title: "Network in",
    unit: "bytes/s",
    expr: `sum(rate(node_network_receive_bytes_total{${NICS},$host}[$rate]))`,
    detail: `sum(rate(node_network_transmit_bytes_total{${NICS},$host}[$rate]))`,
    of: (n, format) => `${format(n, "bytes/s")} out`,
  },
  { title: "Uptime", unit: "seconds", expr: "time() - max(node_boot_time_seconds{$host})", plain: true },
];

const by = (name) => (labels) => labels[name] ?? "";
const named = (name) => () => name;

export const HOST_PANELS = [
  {
    title: "CPU by mode",
    unit: "percent",
    stacked: true,
    floor: 0,
    ceiling: 100,
    queries: [{ expr: '100 * avg by (mode) (rate(node_cpu_seconds_total{mode!="idle",$host}[$rate]))', name: by("mode") }],
    // The same mode has the same colour and place whichever others exist.
    order: ["user", "system", "iowait", "nice", "irq", "softirq", "steal", "guest"],
  },
  {
    title: "Memory",
    unit: "bytes",
    stacked: true,
    floor: 0,
    queries: [
      { expr: "sum(node_memory_MemTotal_bytes{$host}) - sum(node_memory_MemAvailable_bytes{$host})", name: named("used") },
      { expr: "sum(node_memory_MemAvailable_bytes{$host})", name: named("available"), colour: GREY },
    ],
  },
  {
    title: "Load",
    unit: "plain",
    floor: 0,
    queries: [
      { expr: "sum(node_load1{$host})", name: named("1 min") },
      { expr: "sum(node_load5{$host})", name: named("5 min") },
      { expr: "sum(node_load15{$host})", name: named("15 min") },
      { expr: 'count(node_cpu_seconds_total{mode="idle",$host})', name: named("cores"), colour: GREY },
    ],
  },
  {
    title: "Disk space used",
    unit: "percent",
    floor: 0,
    ceiling: 100,
    queries: [
      {
        expr: `100 * max by (mountpoint) (${FULLNESS})`,
        name: by("mountpoint"),
      },
    ],
  },
  {
    title: "Disk read ↑ and written ↓",
    unit: "bytes/s",
    queries: [
      { expr: `sum by (device) (rate(node_disk_read_bytes_total{${DISKS},$host}[$rate]))`, name: (l) => `${l.device} read`, below: false },
      {
        expr: `sum by (device) (rate(node_disk_written_bytes_total{${DISKS},$host}[$rate]))`,
        name: (l) => `${l.device} written`,
        below: true,
      },
    ],
  },
  {
    title: "Network in ↑ and out ↓",
    unit: "bytes/s",
    queries: [
      {
        expr: `sum by (device) (rate(node_network_receive_bytes_total{${NICS},$host}[$rate]))`,
        name: (l) => `${l.device} in`,
        below: false,
      },
      {
        expr: `sum by (device) (rate(node_network_transmit_bytes_total{${NICS},$host}[$rate]))`,
        name: (l) => `${l.device} out`,
        below: true,
      },
    ],
  },
];

const OWN = 'job="vedette"';
const QUERIES = 'handler=~"/api/v1/query(_range)?"';

// Answers nothing where Vedette does not collect its own metrics.
export const OWN_PRESENCE = `count(process_resident_memory_bytes{${OWN}} or vedette_head_series{${OWN}})`;

export const OWN_PANELS = [
  {
    title: "Samples ingested",
    unit: "per second",
    floor: 0,
    queries: [
      { expr: `sum(rate(vedette_ingested_samples_total{${OWN}}[$rate]))`, name: named("stored") },
      { expr: `sum by (reason) (rate(vedette_dropped_samples_total{${OWN}}[$rate])) > 0`, name: (l) => `dropped: ${l.reason}` },
    ],
  },
  { title: "Series in the head", unit: "plain", floor: 0, queries: [{ expr: `sum(vedette_head_series{${OWN}})`, name: named("series") }] },
  {
    title: "Vedette's memory",
    unit: "bytes",
    floor: 0,
    queries: [{ expr: `sum(process_resident_memory_bytes{${OWN}})`, name: named("resident") }],
  },
  {
    title: "Vedette's CPU",
    unit: "percent",
    floor: 0,
    queries: [{ expr: `100 * sum(rate(process_cpu_seconds_total{${OWN}}[$rate]))`, name: named("of one core") }],
  },
  {
    title: "Query latency",
    unit: "seconds",
    floor: 0,
    queries: [0.5, 0.99].map((q) => ({
      expr: `histogram_quantile(${q}, sum by (le) (rate(vedette_http_request_duration_seconds_bucket{${QUERIES},${OWN}}[$rate])))`,
      name: named(q === 0.5 ? "median" : `${q * 100} %`),
    })),
  },
  {
    title: "Bytes on disk",
    unit: "bytes",
    floor: 0,
    stacked: true,
    optional: true,
    queries: [
      { expr: `sum(vedette_block_bytes{${OWN}})`, name: named("blocks") },
      { expr: `sum(vedette_wal_bytes{${OWN}})`, name: named("write-ahead log") },
    ],
  },
  {
    title: "Notifications",
    unit: "per second",
    floor: 0,
    optional: true,
    queries: [{ expr: `sum by (channel) (rate(vedette_notifications_total{${OWN}}[$rate])) > 0`, name: by("channel") }],
  },
];

// An expression with its variables filled in: `host` is a matcher or "", `rate` a duration.
export function fill(expr, { host, rate }) {
  return expr.replaceAll(/,?\$host/g, (found) => (host ? (found.startsWith(",") ? `,${host}` : host) : "")).replaceAll("$rate", rate);
}
