/** All machines that the user may see, live. */
import { useMemo } from "react";
import { useObjects } from "../api/watch.ts";
import { machines, type Machine } from "./view.ts";

export function useMachines(): { machines: Machine[]; isWhole: boolean } {
  const vms = useObjects("machines");
  const vmis = useObjects("instances");
  const all = useMemo(() => machines(vms.all, vmis.all), [vms.all, vmis.all]);
  return { machines: all, isWhole: vms.isWhole && vmis.isWhole };
}
