/** What every new image is given: its name, its project, its size, and whether one installs from it. */
import { Checkbox } from "@patternfly/react-core";
import type { ReactNode } from "react";
import { useObjects } from "../api/watch.ts";
import { SelectField, TextField } from "../parts/fields.tsx";
import { projectOptions } from "../parts/projects.ts";
import type { NewUpload } from "./view.ts";

interface Props {
  /** Before the identifiers of the entries: `${id}-name`. */
  id: string;
  value: NewUpload;
  onText: (entry: "name" | "project" | "size") => (value: string) => void;
  onIso: (value: boolean) => void;
  wrong: Partial<Record<"name" | "project" | "size", string | undefined>>;
  /** About the size. */
  help: ReactNode;
}

export function ImageFields({ id, value, onText, onIso, wrong, help }: Props) {
  const projects = useObjects("projects");
  return (
    <>
      <TextField
        id={`${id}-name`}
        label="Name"
        value={value.name}
        onChange={onText("name")}
        isRequired
        error={wrong.name}
      />
      <SelectField
        id={`${id}-project`}
        label="Project"
        value={value.project}
        onChange={onText("project")}
        error={wrong.project}
        options={projectOptions(projects.all, value.project)}
      />
      <TextField
        id={`${id}-size`}
        type="number"
        label="Size, GiB"
        value={value.size}
        onChange={onText("size")}
        isRequired
        error={wrong.size}
        help={help}
      />
      <Checkbox
        id={`${id}-iso`}
        label="It is an ISO, to install from"
        isChecked={value.isIso}
        onChange={(_event, next) => onIso(next)}
      />
    </>
  );
}
