/**
 * Whether the user administers the cluster: a page offers what only administrators do to them alone.
 *
 * Why here: the console remembers no roles; the API server is asked, as `console/src/join.rs` asks it. It decides all the same with each request.
 * Route in: a page that opens. Route out: yes, no, not known yet, or the refusal.
 */
import { useEffect, useState } from "react";
import { post } from "./client.ts";
import * as paths from "./paths.ts";
import { asRefusal, type Refusal } from "./refusal.ts";

/** May the user do everything? */
export const EVERYTHING = {
  apiVersion: "authorization.k8s.io/v1",
  kind: "SelfSubjectAccessReview",
  spec: { resourceAttributes: { group: "*", resource: "*", verb: "*" } },
};

interface Review {
  status?: { allowed?: boolean };
}

export function useAdministers(): { administers: boolean | undefined; refusal: Refusal | undefined } {
  const [administers, setAdministers] = useState<boolean>();
  const [refusal, setRefusal] = useState<Refusal>();
  useEffect(() => {
    let isCurrent = true;
    post<Review>(paths.review, EVERYTHING).then(
      ({ status }) => isCurrent && setAdministers(status?.allowed === true),
      (error: unknown) => isCurrent && setRefusal(asRefusal(error)),
    );
    return () => {
      isCurrent = false;
    };
  }, []);
  return { administers, refusal };
}
