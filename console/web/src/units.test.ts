import { expect, test } from "vitest";
import { age, bytes, count, percent, quantity } from "./units.ts";

test("quantities of Kubernetes are read as it reads them", () => {
  expect(quantity("512Mi")).toBe(512 * 1024 * 1024);
  expect(quantity("1.5Gi")).toBe(1.5 * 2 ** 30);
  expect(quantity("250m")).toBe(0.25);
  expect(quantity("4")).toBe(4);
  expect(quantity("2e9")).toBe(2e9);
  expect(quantity("10G")).toBe(1e10);
  expect(quantity(7)).toBe(7);
  for (const none of ["", "Gi", "1 Gi B", "-", "1Xi", undefined]) expect(quantity(none)).toBeUndefined();
});

test("sizes have three digits at most and no zeros at their end", () => {
  expect(bytes(0)).toBe("0 B");
  expect(bytes(1023)).toBe("1023 B");
  expect(bytes(1024)).toBe("1 KiB");
  expect(bytes(1.5 * 2 ** 30)).toBe("1.5 GiB");
  expect(bytes(123.4 * 2 ** 40)).toBe("123 TiB");
  expect(bytes(2 ** 30 - 1)).toBe("1 GiB");
  expect(bytes(undefined)).toBe("–");
});

test("an age is in its largest unit", () => {
  const now = Date.parse("2026-11-30T12:00:00Z");
  expect(age("2026-11-30T11:59:18Z", now)).toBe("42 s");
  expect(age("2026-11-30T11:55:00Z", now)).toBe("5 min");
  expect(age("2026-11-27T11:00:00Z", now)).toBe("3 d");
  expect(age("2024-11-27T11:00:00Z", now)).toBe("2 y");
  expect(age("2026-11-30T12:00:30Z", now), "a clock that is ahead").toBe("0 s");
  expect(age(undefined, now)).toBe("–");
});

test("numbers have their words", () => {
  expect(count(1, "machine")).toBe("1 machine");
  expect(count(0, "machine")).toBe("0 machines");
  expect(percent(0.426)).toBe("43 %");
});
