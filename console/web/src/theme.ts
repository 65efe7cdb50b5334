/**
 * Light or dark: as the system has it, or as the user chose in this browser.
 *
 * Why here: PatternFly's dark theme is a class of the root element. Route in: the system, `localStorage`. Route out: the class.
 */
import { useSyncExternalStore } from "react";

export const THEMES = ["system", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

const KEY = "sheaf-theme";
const CLASS = "pf-v6-theme-dark";
const system = matchMedia("(prefers-color-scheme: dark)");
const readers = new Set<() => void>();

/** A browser that forbids storage has the system's theme. */
function kept(): Theme {
  try {
    return THEMES.find((theme) => theme === localStorage.getItem(KEY)) ?? "system";
  } catch {
    return "system";
  }
}

let theme = kept();

function apply(): void {
  const isDark = theme === "dark" || (theme === "system" && system.matches);
  document.documentElement.classList.toggle(CLASS, isDark);
}

export function followTheme(): void {
  apply();
  system.addEventListener("change", apply);
}

export function setTheme(next: Theme): void {
  theme = next;
  try {
    localStorage.setItem(KEY, next);
  } catch {
    // It holds until the page is closed.
  }
  apply();
  for (const reader of readers) reader();
}

export function useTheme(): Theme {
  return useSyncExternalStore(
    (reader) => {
      readers.add(reader);
      return () => readers.delete(reader);
    },
    () => theme,
  );
}
