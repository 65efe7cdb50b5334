/** Short messages about what was done or refused; they are shown above every page. */
import { useSyncExternalStore } from "react";
import { asRefusal } from "./api/refusal.ts";

export interface Notice {
  id: number;
  variant: "success" | "danger";
  title: string;
  text: string;
}

let notices: readonly Notice[] = [];
let last = 0;
const readers = new Set<() => void>();

function set(next: readonly Notice[]): void {
  notices = next;
  for (const reader of readers) reader();
}

/** Something was done. */
export function done(title: string): void {
  last += 1;
  set([...notices, { id: last, variant: "success", title, text: "" }]);
}

/** Something was refused: reason and remedy. */
export function failed(title: string, error: unknown): void {
  const refusal = asRefusal(error);
  last += 1;
  set([...notices, { id: last, variant: "danger", title, text: `${refusal.message}. ${refusal.remedy}` }]);
}

export function dismiss(id: number): void {
  set(notices.filter((notice) => notice.id !== id));
}

/** Does something and says how it went; true if it was done. */
export async function attempt(what: string, request: () => Promise<unknown>): Promise<boolean> {
  try {
    await request();
    done(what);
    return true;
  } catch (error) {
    failed(`${what}: refused`, error);
    return false;
  }
}

export function useNotices(): readonly Notice[] {
  return useSyncExternalStore(
    (reader) => {
      readers.add(reader);
      return () => readers.delete(reader);
    },
    () => notices,
  );
}
