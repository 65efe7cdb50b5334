/** The kinds of `/console/watch` (`console/src/watch.rs`), with the type of their objects. */
import type {
  BlockDevice,
  ClusterUpdate,
  DataVolume,
  NetworkAttachmentDefinition,
  NodeMaintenance,
  NodeNetworkEnactment,
  NodeNetworkPolicy,
  NodeNetworkState,
  NodeRemoval,
  NodeUpdate,
  StoragePool,
  VirtualMachine,
  VirtualMachineInstance,
  VirtualMachineRestore,
  VirtualMachineSnapshot,
} from "../types/crds.ts";
import type { KubeEvent, Namespace, Node } from "../types/meta.ts";

export interface Kinds {
  machines: VirtualMachine;
  instances: VirtualMachineInstance;
  images: DataVolume;
  snapshots: VirtualMachineSnapshot;
  restores: VirtualMachineRestore;
  networks: NetworkAttachmentDefinition;
  projects: Namespace;
  nodes: Node;
  warnings: KubeEvent;
  disks: BlockDevice;
  pools: StoragePool;
  maintenances: NodeMaintenance;
  removals: NodeRemoval;
  updates: ClusterUpdate;
  nodeupdates: NodeUpdate;
  nodenetworks: NodeNetworkState;
  policies: NodeNetworkPolicy;
  enactments: NodeNetworkEnactment;
}

export type Kind = keyof Kinds;
