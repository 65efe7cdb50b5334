/** Kinds of Kubernetes' own that pages read, with the fields that they read; all others are in `crds.ts`. */
import type { Condition } from "./crds.ts";

/** `metadata` of every object. */
export interface Meta {
  name: string;
  namespace?: string;
  uid?: string;
  resourceVersion?: string;
  generation?: number;
  /** RFC 3339. */
  creationTimestamp?: string;
  deletionTimestamp?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  ownerReferences?: { apiVersion: string; kind: string; name: string; uid: string; controller?: boolean }[];
}

/** What every object has. */
export interface Thing {
  apiVersion?: string;
  kind?: string;
  metadata: Meta;
}

/** A Node; quantities as Kubernetes writes them. */
export interface Node extends Thing {
  spec?: { unschedulable?: boolean; taints?: { key: string; value?: string; effect: string }[] };
  status?: {
    conditions?: Condition[];
    capacity?: Record<string, string>;
    allocatable?: Record<string, string>;
    addresses?: { type: string; address: string }[];
    nodeInfo?: { osImage?: string; kernelVersion?: string; kubeletVersion?: string };
  };
}

/** A Namespace: a project. */
export interface Namespace extends Thing {
  status?: { phase?: string };
}

/** An Event of the core group. */
export interface KubeEvent extends Thing {
  involvedObject: { kind?: string; name?: string; namespace?: string; uid?: string };
  reason?: string;
  message?: string;
  type?: string;
  count?: number;
  firstTimestamp?: string;
  lastTimestamp?: string;
  eventTime?: string;
}

/** A list, as the API server answers. */
export interface List<T> {
  items: T[];
}
