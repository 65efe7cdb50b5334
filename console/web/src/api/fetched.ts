/** A list that is read once, for kinds that are not watched: sizes, users, tokens, Events. */
import { useCallback, useEffect, useState } from "react";
import { get } from "./client.ts";
import { asRefusal, type Refusal } from "./refusal.ts";

export interface Fetched<T> {
  value: T | undefined;
  refusal: Refusal | undefined;
  /** Reads it again. */
  reload: () => void;
}

/** Reads `path` now and every `every` ms: kinds that are not watched and whose progress is shown. */
export function usePolled<T>(path: string, every: number): Fetched<T> {
  const fetched = useFetched<T>(path);
  const { reload } = fetched;
  useEffect(() => {
    const timer = setInterval(reload, every);
    return () => clearInterval(timer);
  }, [reload, every]);
  return fetched;
}

/** Reads `path` when it, or `again`, changes. */
export function useFetched<T>(path: string, again?: unknown): Fetched<T> {
  const [value, setValue] = useState<T>();
  const [refusal, setRefusal] = useState<Refusal>();
  const [round, setRound] = useState(0);
  const reload = useCallback(() => setRound((number) => number + 1), []);
  useEffect(() => {
    let isCurrent = true;
    get<T>(path).then(
      (read) => {
        if (!isCurrent) return;
        setValue(read);
        setRefusal(undefined);
      },
      (error: unknown) => isCurrent && setRefusal(asRefusal(error)),
    );
    return () => {
      isCurrent = false;
    };
  }, [path, round, again]);
  return { value, refusal, reload };
}
