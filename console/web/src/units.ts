/**
 * Quantities, sizes and times as people write them. Pure. Source: Kubernetes' resource.Quantity; IEC 80000-13 (binary
 * prefixes, as storage and memory are shown everywhere on the page).
 */

const POWERS: Record<string, number> = {
  "": 1,
  m: 1e-3,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
};

/** The number of a quantity such as `512Mi`, `100m`, `2e9` or `4`; undefined if it is none. */
export function quantity(text: string | number | undefined): number | undefined {
  if (typeof text === "number") return text;
  const match = /^([0-9]+(?:\.[0-9]+)?(?:[eE][0-9]+)?)([a-zA-Z]*)$/.exec(text?.trim() ?? "");
  const power = POWERS[match?.[2] ?? ""];
  return match && power !== undefined ? Number(match[1]) * power : undefined;
}

/** `1.5 GiB`; three digits at most. */
export function bytes(count: number | undefined): string {
  if (count === undefined || !Number.isFinite(count)) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let value = count;
  let unit = 0;
  while (Math.abs(value) >= 1023.5 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = value >= 100 || unit === 0 ? 0 : value >= 10 ? 1 : 2;
  return `${trimmed(value, digits)} ${units[unit]}`;
}

const trimmed = (value: number, digits: number): string => String(Number(value.toFixed(digits)));

/** `42 %`, without digits. */
export function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}

/** `1 machine`, `2 machines`. */
export function count(number: number, one: string, many = `${one}s`): string {
  return `${number} ${number === 1 ? one : many}`;
}

const STEPS: [number, string][] = [
  [365 * 86400, "y"],
  [86400, "d"],
  [3600, "h"],
  [60, "min"],
  [1, "s"],
];

/** How long ago `time` (RFC 3339) was at `now` (ms): `3 d`, `5 min`. */
export function age(time: string | undefined, now: number): string {
  const then = Date.parse(time ?? "");
  if (Number.isNaN(then)) return "–";
  const seconds = Math.max(0, Math.floor((now - then) / 1000));
  const [length, unit] = STEPS.find(([step]) => seconds >= step) ?? [1, "s"];
  return `${Math.floor(seconds / length)} ${unit}`;
}

/** A time for people, in their zone and order. */
export function moment(time: string | number | undefined): string {
  const date = new Date(typeof time === "number" ? time * 1000 : (time ?? ""));
  return Number.isNaN(date.getTime())
    ? "–"
    : date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}
