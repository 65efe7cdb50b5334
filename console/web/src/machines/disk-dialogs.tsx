/** Dialogs of a machine's disks: add, remove, grow, insert, eject, download. */
import { useState } from "react";
import { ask, patch, post, remove } from "../api/client.ts";
import { useFetched } from "../api/fetched.ts";
import * as paths from "../api/paths.ts";
import { useObjects } from "../api/watch.ts";
import { images } from "../images/view.ts";
import { done } from "../notices.ts";
import { Confirm } from "../parts/confirm.tsx";
import { SelectField, TextField } from "../parts/fields.tsx";
import { Dialog } from "../parts/dialog.tsx";
import { link } from "../route.ts";
import type { DataVolume, Volume } from "../types/crds.ts";
import type { List, Thing } from "../types/meta.ts";
import { bytes } from "../units.ts";
import {
  adding,
  blank,
  diskNames,
  diskOf,
  growing,
  medium,
  mediumToDelete,
  nameProblem,
  removing,
  sizeProblem,
} from "./change.ts";
import type { Machine } from "./view.ts";

const GIB = 2 ** 30;

interface StorageClass extends Thing {
  provisioner: string;
  parameters?: Record<string, string>;
}

/** The provisioner of Sheaf's classes, and what names their pool (`controller/api/src/names.rs`). */
const DRIVER = "lvm.sheaf.dev";
const POOL = "pool";

const addTo = (machine: Machine, body: unknown) =>
  ask<unknown>("PUT", paths.act("virtualmachines", machine.project, machine.name, "addvolume"), body);
const removeFrom = (machine: Machine, name: string) =>
  ask<unknown>("PUT", paths.act("virtualmachines", machine.project, machine.name, "removevolume"), removing(name));

/** A new, empty disk, or `free`, one of the project that no machine has. */
export function AddDisk({ machine, free, onClose }: { machine: Machine; free?: DataVolume; onClose: () => void }) {
  const [name, setName] = useState(free ? free.metadata.name.slice(0, 40) : "data");
  const [size, setSize] = useState("10");
  const [kind, setKind] = useState("");
  const classes = useFetched<List<StorageClass>>(paths.storageClass());
  const pools = (classes.value?.items ?? [])
    .filter((one) => one.provisioner === DRIVER)
    .map((one) => ({ value: one.metadata.name, label: `${one.parameters?.[POOL] ?? one.metadata.name}` }));
  const act = async () => {
    const disk = free?.metadata.name ?? `${machine.name}-${name}`;
    if (!free) await post(paths.image(machine.project), blank(machine.project, disk, size, kind));
    try {
      await addTo(machine, adding(name, disk));
    } catch (error) {
      // Nothing is in it yet.
      if (!free) await remove(paths.image(machine.project, disk)).catch(() => undefined);
      throw error;
    }
    done(`Add disk ${name} to ${machine.name}`);
  };
  return (
    <Dialog
      id="disk"
      title={free ? `Add ${free.metadata.name} to ${machine.name}` : `Add a disk to ${machine.name}`}
      label="Add"
      text={machine.vmi ? "The guest has it within some seconds, without a restart." : "The machine starts with it."}
      problems={{
        name: nameProblem(name, diskNames(machine.vm)),
        size: free ? undefined : sizeProblem(size),
      }}
      act={act}
      onClose={onClose}
    >
      {(at) => (
        <>
          <TextField
            id="disk-name"
            label="Name"
            value={name}
            onChange={setName}
            isRequired
            error={at("name", "metadata.name")}
            help={`The guest finds it as /dev/disk/by-id/…${name.slice(0, 20)}.`}
          />
          {!free && (
            <>
              <TextField
                id="disk-size"
                type="number"
                label="Size, GiB"
                value={size}
                onChange={setSize}
                isRequired
                error={at("size", "spec.storage")}
              />
              <SelectField
                id="disk-pool"
                label="Pool"
                value={kind}
                onChange={setKind}
                error={classes.refusal?.message}
                help="On the node that the machine runs on."
                options={[{ value: "", label: "As the cluster has it" }, ...pools]}
              />
            </>
          )}
        </>
      )}
    </Dialog>
  );
}

export function RemoveDisk({ machine, volume, onClose }: { machine: Machine; volume: Volume; onClose: () => void }) {
  return (
    <Confirm
      title={`Remove disk ${volume.name} from ${machine.name}`}
      label="Remove"
      act={() => removeFrom(machine, volume.name)}
      onClose={onClose}
      onDone={() => done(`Remove disk ${volume.name}`)}
    >
      <p>
        Disk {diskOf(volume)} stays with what is on it, and can be added again.
        {machine.vmi && " Unmount it in the guest first: a guest that does not release it keeps it until it stops."}
      </p>
    </Confirm>
  );
}

export function DeleteDisk({ disk, onClose }: { disk: DataVolume; onClose: () => void }) {
  const { name, namespace = "" } = disk.metadata;
  return (
    <Confirm
      title={`Delete disk ${name}`}
      label="Delete"
      typed={name}
      act={() => remove(paths.image(namespace, name))}
      onClose={onClose}
      onDone={() => done(`Delete disk ${name}`)}
    >
      <p>What is on the disk is lost.</p>
    </Confirm>
  );
}

/** A larger disk; `size` is what it has, in bytes. */
export function GrowDisk({
  machine,
  disk,
  size,
  onClose,
  onDone,
}: {
  machine: Machine;
  disk: string;
  size: number;
  onClose: () => void;
  onDone: () => void;
}) {
  const [wanted, setWanted] = useState(String(Math.ceil(size / GIB) + 10));
  return (
    <Dialog
      id="grow"
      title={`Grow disk ${disk}`}
      label="Grow"
      text={`It has ${bytes(size)}. The guest sees the new size at once; its partitions and file systems are grown there.`}
      problems={{ size: sizeProblem(wanted, size / GIB) }}
      act={async () => {
        await patch(paths.claim(machine.project, disk), growing(wanted));
        done(`Grow disk ${disk} to ${wanted} GiB`);
        onDone();
      }}
      onClose={onClose}
    >
      {(at) => (
        <TextField
          id="grow-size"
          type="number"
          label="Size, GiB"
          value={wanted}
          onChange={setWanted}
          isRequired
          error={at("size", "spec.resources")}
          help="A disk does not become smaller again."
        />
      )}
    </Dialog>
  );
}

/** An ISO into an empty drive. */
export function Insert({ machine, drive, onClose }: { machine: Machine; drive: string; onClose: () => void }) {
  const isos = images(useObjects("images").all).filter(
    (image) => image.project === machine.project && image.isIso && image.isReady,
  );
  const [chosen, setChosen] = useState("");
  const act = async () => {
    const copy = medium(machine, drive, chosen, Date.now());
    await post(paths.image(machine.project), copy);
    try {
      await addTo(machine, adding(drive, copy.metadata.name));
    } catch (error) {
      await remove(paths.image(machine.project, copy.metadata.name)).catch(() => undefined);
      throw error;
    }
    done(`Insert ${chosen} into ${drive}`);
  };
  return (
    <Dialog
      id="insert"
      title={`Insert a medium into ${drive} of ${machine.name}`}
      label="Insert"
      text="The machine gets a copy of the ISO, on the node that has it; a machine that runs on another node cannot read it."
      problems={{ iso: chosen === "" ? "Choose an ISO." : undefined }}
      act={act}
      onClose={onClose}
    >
      {(at) => (
        <SelectField
          id="insert-iso"
          label="ISO"
          value={chosen}
          onChange={setChosen}
          isRequired
          error={at("iso", "metadata.name")}
          help={
            isos.length === 0 ? (
              <>
                This project has none that is ready. <a href={link({ page: "images" })}>Upload an image</a>.
              </>
            ) : undefined
          }
          options={[
            { value: "", label: "Choose" },
            ...isos.map((image) => ({ value: image.name, label: `${image.name} (${bytes(image.size)})` })),
          ]}
        />
      )}
    </Dialog>
  );
}

export function Eject({ machine, volume, onClose }: { machine: Machine; volume: Volume; onClose: () => void }) {
  const volumes = useObjects("images");
  const copy = mediumToDelete(machine, volume, volumes.all);
  return (
    <Confirm
      title={`Eject ${diskOf(volume)} from ${volume.name}`}
      label="Eject"
      isDanger={false}
      act={async () => {
        await removeFrom(machine, volume.name);
        // It goes when the drive has released it.
        if (copy) await remove(paths.image(machine.project, copy));
      }}
      onClose={onClose}
      onDone={() => done(`Eject ${volume.name} of ${machine.name}`)}
    >
      <p>
        A guest that has mounted it has 30 s to release it; then it is taken by force.
        {copy && " The copy is deleted; the image stays."}
      </p>
    </Confirm>
  );
}
