/** What Prometheus' clients report of a process on Linux: processor time, memory, descriptors, network. */
import { readdirSync, readFileSync } from "node:fs";
import { formatHead } from "./prometheus.ts";

/** Kernel ticks in a second; the same on every Linux platform that this program runs on. */
const ticksPerSecond = 100;
const pageBytes = 4_096;

/** Families in the text format, sorted by name; what can't be read is left out. */
export function processMetrics(): string {
  const values = { ...fromStat(), ...fromLimits(), ...fromNetwork(), ...openDescriptors() };
  return Object.entries(values)
    .filter(([, value]) => Number.isFinite(value))
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => {
      const full = `process_${name}`;
      return `${formatHead(full, name.endsWith("_total") ? "counter" : "gauge")}${full} ${value}\n`;
    })
    .join("");
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

/** proc(5), /proc/pid/stat: fields after the program's name, which may hold spaces itself. */
function fromStat(): Record<string, number> {
  const stat = read("/proc/self/stat");
  if (stat === undefined) return {};
  const fields = stat
    .slice(stat.lastIndexOf(")") + 2)
    .split(" ")
    .map(Number);
  const field = (number: number) => fields[number - 3] ?? Number.NaN;
  const bootTime = Number(/^btime (\d+)$/m.exec(read("/proc/stat") ?? "")?.[1]);
  return {
    cpu_seconds_total: (field(14) + field(15)) / ticksPerSecond,
    start_time_seconds: bootTime + field(22) / ticksPerSecond,
    virtual_memory_bytes: field(23),
    resident_memory_bytes: field(24) * pageBytes,
  };
}

/** Soft limits; `unlimited` is the largest number, as Prometheus' clients say it. */
function fromLimits(): Record<string, number> {
  const limits = read("/proc/self/limits") ?? "";
  const soft = (name: string) => {
    const text = new RegExp(`^${name} +(\\S+)`, "m").exec(limits)?.[1];
    return text === "unlimited" ? 2 ** 64 : Number(text);
  };
  return { max_fds: soft("Max open files"), virtual_memory_max_bytes: soft("Max address space") };
}

function fromNetwork(): Record<string, number> {
  const rows = (read("/proc/self/net/netstat") ?? "").split("\n").filter((line) => line.startsWith("IpExt:"));
  const [names = [], values = []] = rows.map((row) => row.split(" "));
  const of = (name: string) => (names.includes(name) ? Number(values[names.indexOf(name)]) : Number.NaN);
  return {
    network_receive_bytes_total: of("InOctets"),
    network_transmit_bytes_total: of("OutOctets"),
  };
}

function openDescriptors(): Record<string, number> {
  try {
    return { open_fds: readdirSync("/proc/self/fd").length };
  } catch {
    return {};
  }
}
