/** Chooses free disks of a node, and has what is on them erased once their serials are typed. */
import { Checkbox, FormGroup, FormHelperText, HelperText, HelperTextItem } from "@patternfly/react-core";
import { patch } from "../api/client.ts";
import * as paths from "../api/paths.ts";
import type { At } from "../parts/dialog.tsx";
import { TextField } from "../parts/fields.tsx";
import type { BlockDevice } from "../types/crds.ts";
import { contents, diskText, erase, keep, proof, proofWord } from "./build.ts";

export interface Choice {
  disks: readonly string[];
  typed: Readonly<Record<string, string>>;
}

/** Erases what is on the chosen disks, each confirmed by its serial. */
export async function eraseChosen(choice: Choice, all: readonly BlockDevice[]): Promise<void> {
  for (const disk of all) {
    if (choice.disks.includes(disk.metadata.name) && contents(disk).length > 0) await eraseDisk(disk);
  }
}

/** A request that stands already was done once, and does nothing more: it is withdrawn first. */
export async function eraseDisk(disk: BlockDevice): Promise<void> {
  const path = paths.blockDevice(disk.metadata.name);
  if (disk.spec.wipe) await patch(path, keep);
  await patch(path, erase(disk));
}

interface Props {
  id: string;
  free: readonly BlockDevice[];
  choice: Choice;
  at: At;
  onChange: (choice: Choice) => void;
}

export function ChooseDisks({ id, free, choice, at, onChange }: Props) {
  const wrong = at("disks", "spec.devices");
  return (
    <FormGroup role="group" label="Disks" fieldId={`${id}-disks`} isRequired>
      {free.length === 0 && <p>The node has no free disk. One that is attached is shown within seconds.</p>}
      {free.map((disk, index) => {
        const { name } = disk.metadata;
        const isChosen = choice.disks.includes(name);
        const there = contents(disk);
        return (
          <div key={name}>
            <Checkbox
              id={index === 0 ? `${id}-disks` : `${id}-disk-${name}`}
              label={diskText(disk)}
              description={there.length > 0 ? `With contents: ${there.join(", ")}` : "Empty"}
              isChecked={isChosen}
              onChange={(_event, isOn) =>
                onChange({
                  ...choice,
                  disks: isOn ? [...choice.disks, name] : choice.disks.filter((one) => one !== name),
                })
              }
            />
            {isChosen && there.length > 0 && (
              <TextField
                id={`${id}-typed-${name}`}
                label={`Type the ${proofWord(disk)} ${proof(disk) ?? ""} to erase what is on it`}
                value={choice.typed[name] ?? ""}
                onChange={(text) => onChange({ ...choice, typed: { ...choice.typed, [name]: text } })}
                isRequired
                error={at(`typed-${name}`)}
              />
            )}
          </div>
        );
      })}
      {wrong && (
        <FormHelperText>
          <HelperText isLiveRegion>
            <HelperTextItem variant="error">{wrong}</HelperTextItem>
          </HelperText>
        </FormHelperText>
      )}
    </FormGroup>
  );
}
