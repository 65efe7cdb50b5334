/** An image that its node fetches from a URL or a registry. */
import { useState } from "react";
import { post } from "../api/client.ts";
import * as paths from "../api/paths.ts";
import { done } from "../notices.ts";
import { Dialog } from "../parts/dialog.tsx";
import { TextField } from "../parts/fields.tsx";
import { ImageFields } from "./fields.tsx";
import { named } from "./file.ts";
import { build, check, type NewImage } from "./view.ts";

const EMPTY: NewImage = { project: "default", name: "", url: "", checksum: "", size: "10", isIso: false };

export function CreateImage({ onClose }: { onClose: () => void }) {
  const [form, setForm] = useState(EMPTY);
  const set = (entry: keyof NewImage) => (value: string) =>
    setForm((before) => {
      const next = { ...before, [entry]: value };
      // A name that was not typed follows the URL.
      if (entry === "url" && (before.name === "" || before.name === named(before.url))) next.name = named(value);
      if (entry === "url") next.isIso = /\.iso($|\?|\.)/i.test(value);
      return next;
    });
  return (
    <Dialog
      id="image"
      title="Create image"
      text="The node fetches it; raw or qcow2, plain or compressed by xz, zstd or gzip."
      label="Create"
      isWide
      problems={check(form)}
      act={() => post(paths.image(form.project), build(form))}
      onClose={onClose}
      onDone={() => done(`Create image ${form.name}`)}
    >
      {(at) => (
        <>
          <TextField
            id="image-url"
            label="URL"
            value={form.url}
            onChange={set("url")}
            isRequired
            error={at("url", "spec.source")}
            help="https://… of a file, or docker://… of an image in a registry."
          />
          {!form.url.startsWith("docker:") && (
            <TextField
              id="image-checksum"
              label="SHA-256"
              value={form.checksum}
              onChange={set("checksum")}
              isRequired
              error={at("checksum", "spec.source.http.checksum")}
              help="Of the file, as its server publishes it."
            />
          )}
          <ImageFields
            id="image"
            value={form}
            onText={set}
            onIso={(isIso) => setForm({ ...form, isIso })}
            wrong={{
              name: at("name", "metadata.name"),
              project: at("project", "metadata.namespace"),
              size: at("size", "spec.storage"),
            }}
            help="At least what it unpacks to."
          />
        </>
      )}
    </Dialog>
  );
}
