/**
 * Paths of the API server behind the console, for the rows of `console/src/proxy/table.rs`. Pure.
 */

const API = "/api/apis";
const group = (name: string, plural: string) => (project?: string, object?: string) =>
  `${API}/${name}${project ? `/namespaces/${project}` : ""}/${plural}${object ? `/${object}` : ""}`;
const ofCluster = (name: string, plural: string) => (object?: string) =>
  `${API}/${name}/${plural}${object ? `/${object}` : ""}`;

export const machine = group("kubevirt.io/v1", "virtualmachines");
export const instance = group("kubevirt.io/v1", "virtualmachineinstances");
export const image = group("cdi.kubevirt.io/v1beta1", "datavolumes");
export const snapshot = group("snapshot.kubevirt.io/v1beta1", "virtualmachinesnapshots");
export const restore = group("snapshot.kubevirt.io/v1beta1", "virtualmachinerestores");
export const clone = group("clone.kubevirt.io/v1beta1", "virtualmachineclones");
export const exported = group("export.kubevirt.io/v1beta1", "virtualmachineexports");
export const network = group("k8s.cni.cncf.io/v1", "network-attachment-definitions");
export const storageClass = ofCluster("storage.k8s.io/v1", "storageclasses");
export const size = ofCluster("instancetype.kubevirt.io/v1beta1", "virtualmachineclusterinstancetypes");
export const preference = ofCluster("instancetype.kubevirt.io/v1beta1", "virtualmachineclusterpreferences");
export const blockDevice = ofCluster("sheaf.dev/v1alpha1", "blockdevices");
export const pool = ofCluster("sheaf.dev/v1alpha1", "storagepools");
export const maintenance = ofCluster("sheaf.dev/v1alpha1", "nodemaintenances");
export const removal = ofCluster("sheaf.dev/v1alpha1", "noderemovals");
export const nodeUpdate = ofCluster("sheaf.dev/v1alpha1", "nodeupdates");
/** What a node tells of itself. */
export const nodeLogs = (node: string, file?: "node.toml" | "support-bundle.tar.gz") =>
  `/api/api/v1/nodes/${node}/proxy/logs${file ? `/${file}` : ""}`;
export const clusterUpdate = ofCluster("sheaf.dev/v1alpha1", "clusterupdates");
export const policy = ofCluster("sheaf.dev/v1alpha1", "nodenetworkpolicies");
/** Which key has which node's name; a name is released there, and nothing is read. */
export const identities = "/api/api/v1/namespaces/sheaf-system/configmaps/node-identities";
/** The console's own: makes a token for a node. */
export const joinTokens = "/console/join-tokens";
/** Settings of the whole cluster. */
export const clusterConfig = "/api/apis/sheaf.dev/v1alpha1/clusterconfigs/cluster";
/** Asks the API server what the user may do. */
export const review = `${API}/authorization.k8s.io/v1/selfsubjectaccessreviews`;
export const project = (name?: string) => `/api/api/v1/namespaces${name ? `/${name}` : ""}`;

/** A part of a machine (start, stop, restart) or of its instance (pause, unpause, vnc, console). */
export const act = (kind: "virtualmachines" | "virtualmachineinstances", project: string, name: string, part: string) =>
  `${API}/subresources.kubevirt.io/v1/namespaces/${project}/${kind}/${name}/${part}`;

const core = (plural: string) => (project: string, name?: string) =>
  `/api/api/v1/namespaces/${project}/${plural}${name ? `/${name}` : ""}`;
/** What holds the bytes of a disk; it grows. */
export const claim = core("persistentvolumeclaims");
export const secret = core("secrets");

/** Events about an object. */
export const events = (project: string, name: string) =>
  `/api/api/v1/namespaces/${project}/events?fieldSelector=${encodeURIComponent(`involvedObject.name=${name}`)}&limit=100`;

/** Where a file is sent into a disk. */
export const upload = (project: string, name: string) => `/console/upload/${project}/${name}`;

/** A disk of an export, as a file. */
export const download = (project: string, name: string, disk: string, file: "disk.img" | "disk.img.gz") =>
  `/console/download/${project}/${name}/${disk}/${file}`;

/** The same path as a WebSocket of this host. */
export const socket = (path: string) => `${location.origin.replace(/^http/, "ws")}${path}`;
