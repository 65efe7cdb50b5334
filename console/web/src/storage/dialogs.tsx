/** What is done with pools and disks: create, add a disk, replace or take out one, erase, forget, delete. */
import { Alert } from "@patternfly/react-core";
import { useState } from "react";
import { get, patch, post, remove } from "../api/client.ts";
import * as paths from "../api/paths.ts";
import { useObjects } from "../api/watch.ts";
import { done } from "../notices.ts";
import { Confirm } from "../parts/confirm.tsx";
import { Dialog } from "../parts/dialog.tsx";
import { SelectField, TextField } from "../parts/fields.tsx";
import type { BlockDevice, StoragePool } from "../types/crds.ts";
import type { List, Thing } from "../types/meta.ts";
import {
  build,
  changeDevices,
  check,
  checkDisks,
  contents,
  diskText,
  free,
  isOffered,
  memberBy,
  type NewPool,
  noRole,
  proof,
  proofWord,
  storageClass,
} from "./build.ts";
import { type Choice, ChooseDisks, eraseChosen, eraseDisk } from "./disks.tsx";

const NOTHING: Choice = { disks: [], typed: {} };

interface Class extends Thing {
  provisioner?: string;
  parameters?: Record<string, string>;
}

/** The pool, what makes it usable, and last what is erased for it: a refusal before that loses nothing. */
async function create(form: NewPool, disks: readonly BlockDevice[]): Promise<void> {
  await post(paths.pool(), build(form));
  const classes = await get<List<Class>>(paths.storageClass());
  if (!isOffered(form.pool, classes.items)) await post(paths.storageClass(), storageClass(form.pool));
  await eraseChosen(form, disks);
}

export function CreatePool({ node, disk, onClose }: { node?: string; disk?: string; onClose: () => void }) {
  const disks = useObjects("disks").all;
  const pools = useObjects("pools").all;
  const nodes = [...new Set(disks.map(({ spec }) => spec.nodeName))].sort();
  const [form, setForm] = useState<NewPool>({
    node: node ?? "",
    pool: "",
    ...NOTHING,
    disks: disk ? [disk] : [],
  });
  return (
    <Dialog
      id="pool"
      title="Create pool"
      text="A pool holds the disks of machines, on disks of one node. Pools of one name on several nodes are one choice for machines."
      label="Create"
      isWide
      problems={check(form, disks, pools)}
      act={() => create(form, disks)}
      onClose={onClose}
      onDone={() => done(`Create pool ${form.pool} on ${form.node}`)}
    >
      {(at) => (
        <>
          <SelectField
            id="pool-node"
            label="Node"
            value={form.node}
            onChange={(value) => setForm({ ...form, ...NOTHING, node: value })}
            isRequired
            error={at("node", "spec.nodeName")}
            options={[{ value: "", label: "Choose" }, ...nodes.map((name) => ({ value: name, label: name }))]}
          />
          <TextField
            id="pool-pool"
            label="Name"
            value={form.pool}
            onChange={(pool) => setForm({ ...form, pool })}
            isRequired
            placeholder="fast"
            error={at("pool", "spec.pool") ?? at("pool", "metadata.name")}
          />
          {form.node !== "" && (
            <ChooseDisks
              id="pool"
              free={free(disks, pools, form.node)}
              choice={form}
              at={at}
              onChange={(choice) => setForm({ ...form, ...choice })}
            />
          )}
        </>
      )}
    </Dialog>
  );
}

/** Changes the members of a pool: `takeOut` leaves by each of the two that name it. */
async function change(
  pool: StoragePool,
  add: readonly string[],
  takeOut: string | undefined,
  disks: readonly BlockDevice[],
): Promise<void> {
  const by = takeOut === undefined ? { list: false, role: false } : memberBy(pool, takeOut, disks);
  if (add.length > 0 || by.list)
    await patch(paths.pool(pool.metadata.name), changeDevices(pool, add, takeOut === undefined ? [] : [takeOut]));
  if (takeOut !== undefined && by.role) await patch(paths.blockDevice(takeOut), noRole);
}

/** Why a disk is not taken out here, if it is not. */
function stays(pool: StoragePool, name: string, disks: readonly BlockDevice[]): string | undefined {
  const by = memberBy(pool, name, disks);
  return by.list || by.role ? undefined : "It is a member by node.toml or as the boot disk: take it out there.";
}

/** Adds disks; `instead` is taken out in the same change. */
export function AddDisks({
  pool,
  isReplacing,
  onClose,
}: {
  pool: StoragePool;
  isReplacing: boolean;
  onClose: () => void;
}) {
  const disks = useObjects("disks").all;
  const pools = useObjects("pools").all;
  const [choice, setChoice] = useState<Choice>(NOTHING);
  const members = (pool.status?.devices ?? []).map(({ name, state }) => ({ name, state: state ?? "Active" }));
  const [instead, setInstead] = useState(
    () => members.find(({ state }) => state === "Failing")?.name ?? members[0]?.name ?? "",
  );
  const wrong = checkDisks(choice.disks, choice.typed, disks);
  const reason = isReplacing ? stays(pool, instead, disks) : undefined;
  if (reason) wrong["instead"] = reason;
  const act = async () => {
    await change(pool, choice.disks, isReplacing ? instead : undefined, disks);
    await eraseChosen(choice, disks);
  };
  const { name } = pool.metadata;
  return (
    <Dialog
      id="disks"
      title={isReplacing ? `Replace a disk of pool ${name}` : `Add a disk to pool ${name}`}
      text={
        isReplacing
          ? "Data move to the others while machines run; the page shows how far, and when the disk can be pulled."
          : "The pool grows over it while machines run. A pool never shrinks."
      }
      label={isReplacing ? "Replace" : "Add"}
      isWide
      problems={wrong}
      act={act}
      onClose={onClose}
      onDone={() => done(`Change the disks of pool ${name}`)}
    >
      {(at) => (
        <>
          {isReplacing && (
            <SelectField
              id="disks-instead"
              label="Disk that is to leave"
              value={instead}
              onChange={setInstead}
              error={at("instead")}
              options={members.map((one) => ({
                value: one.name,
                label: `${one.name}${one.state === "Active" ? "" : ` (${one.state})`}`,
              }))}
            />
          )}
          <ChooseDisks
            id="disks"
            free={free(disks, pools, pool.spec.nodeName)}
            choice={choice}
            at={at}
            onChange={setChoice}
          />
        </>
      )}
    </Dialog>
  );
}

/** Takes a disk out; its data move to the others first. */
export function TakeOut({ pool, onClose }: { pool: StoragePool; onClose: () => void }) {
  const disks = useObjects("disks").all;
  const members = pool.status?.devices ?? [];
  const [name, setName] = useState(members[0]?.name ?? "");
  const reason = members.length < 2 ? "It is the only disk of the pool." : stays(pool, name, disks);
  return (
    <Dialog
      id="out"
      title={`Take a disk out of pool ${pool.metadata.name}`}
      text="Its data move to the other disks while machines run. Without room there it stays, and the pool says how much is missing."
      label="Take out"
      problems={reason ? { disk: reason } : {}}
      act={() => change(pool, [], name, disks)}
      onClose={onClose}
      onDone={() => done(`Take ${name} out of pool ${pool.metadata.name}`)}
    >
      {(at) => (
        <SelectField
          id="out-disk"
          label="Disk"
          value={name}
          onChange={setName}
          error={at("disk", "spec.devices")}
          options={members.map((one) => ({ value: one.name, label: one.name }))}
        />
      )}
    </Dialog>
  );
}

export function DeletePool({ pool, onClose }: { pool: StoragePool; onClose: () => void }) {
  const { name } = pool.metadata;
  return (
    <Confirm
      title={`Delete pool ${name}`}
      label="Delete"
      typed={name}
      act={() => remove(paths.pool(name))}
      onClose={onClose}
      onDone={() => done(`Delete pool ${name}`)}
    >
      <p>
        Machines with disks in it cannot use them any more. Nothing is erased: the pool comes back with its disks when
        it is created again. A pool that node.toml names, or that disks name by their role, comes back by itself.
      </p>
    </Confirm>
  );
}

export function EraseDisk({ disk, onClose }: { disk: BlockDevice; onClose: () => void }) {
  const there = contents(disk);
  return (
    <Confirm
      title={`Erase disk ${disk.metadata.name}`}
      label="Erase"
      typed={proof(disk) ?? disk.metadata.name}
      act={() => eraseDisk(disk)}
      onClose={onClose}
      onDone={() => done(`Erase ${disk.metadata.name}`)}
    >
      <p>{diskText(disk)}</p>
      <Alert
        variant="warning"
        isInline
        isPlain
        component="h2"
        title={there.length > 0 ? `Lost: ${there.join(", ")}` : "No contents are known; what is there is lost"}
      >
        The {proofWord(disk)} is on the label of the disk: compare it before you type it.
      </Alert>
    </Confirm>
  );
}

export function ForgetDisk({ disk, onClose }: { disk: BlockDevice; onClose: () => void }) {
  const { name } = disk.metadata;
  return (
    <Confirm
      title={`Forget disk ${name}`}
      label="Forget"
      act={() => remove(paths.blockDevice(name))}
      onClose={onClose}
      onDone={() => done(`Forget ${name}`)}
    >
      It is not attached. Its settings are deleted; if it is attached again, it is a new disk with its contents.
      {disk.status?.usedBy ? ` What ${disk.status.usedBy} had on it is not there without it.` : ""}
    </Confirm>
  );
}
