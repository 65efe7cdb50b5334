/** Images of all projects: list, create from a URL or a registry, upload, delete. */
import {
  ActionGroup,
  Button,
  Checkbox,
  Flex,
  Form,
  Modal,
  ModalBody,
  ModalHeader,
  Progress,
  ProgressSize,
} from "@patternfly/react-core";
import { type FormEvent, useMemo, useState } from "react";
import { post, remove } from "../api/client.ts";
import * as paths from "../api/paths.ts";
import { asRefusal, type Refusal } from "../api/refusal.ts";
import { useObjects } from "../api/watch.ts";
import { List, type Column } from "../list/list.tsx";
import { done } from "../notices.ts";
import { Confirm } from "../parts/confirm.tsx";
import { SelectField, TextField } from "../parts/fields.tsx";
import { Heading } from "../parts/heading.tsx";
import { type Item, Kebab } from "../parts/kebab.tsx";
import { projectOptions } from "../parts/projects.ts";
import { State } from "../parts/state.tsx";
import { FormRefused } from "../parts/refused.tsx";
import { age, bytes } from "../units.ts";
import { named } from "./file.ts";
import { UploadImage } from "./upload.tsx";
import { told, type Upload, uploads, useUploads } from "./uploads.ts";
import { build, check, type Image, images, type NewImage } from "./view.ts";

/** A row: an image, and the upload of this window into it. */
type Row = Image & { upload: Upload | undefined };

function Progressing({ image }: { image: Row }) {
  const { upload } = image;
  if (upload?.state === "broken")
    return (
      <>
        <State tone="danger">{told(upload)}</State> {upload.why}
      </>
    );
  if (upload)
    return (
      <Progress
        size={ProgressSize.sm}
        value={Math.floor((upload.sent / upload.size) * 100)}
        title={told(upload)}
        helperText={upload.state === "preparing" ? image.why : ""}
        aria-label={`Upload of ${image.name}`}
      />
    );
  return image.progress === undefined ? (
    <>
      <State tone={image.tone}>{image.state}</State> {image.why}
    </>
  ) : (
    <Progress
      size={ProgressSize.sm}
      value={Math.round(image.progress)}
      title={image.state}
      aria-label={`${image.state} ${image.name}`}
    />
  );
}

const COLUMNS: Column<Row>[] = [
  { title: "Name", value: (row) => row.name, cell: (row) => row.name },
  { title: "Project", value: (row) => row.project, cell: (row) => row.project },
  {
    title: "Kind",
    value: (row) => (row.isIso ? "ISO" : "Disk image"),
    cell: (row) => (row.isIso ? "ISO" : "Disk image"),
  },
  { title: "State", value: (row) => row.state, cell: (row) => <Progressing image={row} /> },
  { title: "Size", value: (row) => row.size, cell: (row) => bytes(row.size) },
  { title: "From", value: (row) => row.source, cell: (row) => <span className="sheaf-mono">{row.source}</span> },
  {
    title: "Age",
    value: (row) => (row.created ? -Date.parse(row.created) : undefined),
    cell: (row) => age(row.created, Date.now()),
  },
];

const EMPTY: NewImage = { project: "default", name: "", url: "", checksum: "", size: "10", isIso: false };

const FIELDS: [keyof NewImage, string][] = [
  ["name", "metadata.name"],
  ["project", "metadata.namespace"],
  ["checksum", "spec.source.http.checksum"],
  ["url", "spec.source"],
  ["size", "spec.storage"],
];

function CreateImage({ onClose }: { onClose: () => void }) {
  const [form, setForm] = useState(EMPTY);
  const [isChecked, setChecked] = useState(false);
  const [refusal, setRefusal] = useState<Refusal>();
  const [isBusy, setBusy] = useState(false);
  const projects = useObjects("projects");
  const set = (entry: keyof NewImage) => (value: string) => {
    setRefusal(undefined);
    setForm((before) => {
      const next = { ...before, [entry]: value };
      // A name that was not typed follows the URL.
      if (entry === "url" && (before.name === "" || before.name === named(before.url))) next.name = named(value);
      if (entry === "url") next.isIso = /\.iso($|\?|\.)/i.test(value);
      return next;
    });
  };
  const wrong: Partial<Record<keyof NewImage, string>> = isChecked ? check(form) : {};
  for (const [entry, field] of FIELDS) {
    const message = refusal?.at(field);
    if (message) wrong[entry] ??= message;
  }
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setChecked(true);
    const first = Object.keys(check(form))[0];
    if (first) {
      document.getElementById(`image-${first}`)?.focus();
      return;
    }
    setBusy(true);
    try {
      await post(paths.image(form.project), build(form));
      done(`Create image ${form.name}`);
      onClose();
    } catch (error) {
      setRefusal(asRefusal(error));
      setBusy(false);
    }
  };
  return (
    <Modal variant="medium" isOpen onClose={onClose} aria-labelledby="create-image">
      <ModalHeader
        title="Create image"
        labelId="create-image"
        description="The node fetches it; raw or qcow2, plain or compressed by xz, zstd or gzip."
      />
      <ModalBody>
        <Form onSubmit={(event) => void submit(event)} noValidate>
          <FormRefused refusal={refusal} />
          <TextField
            id="image-url"
            label="URL"
            value={form.url}
            onChange={set("url")}
            isRequired
            error={wrong.url}
            help="https://… of a file, or docker://… of an image in a registry."
          />
          {!form.url.startsWith("docker:") && (
            <TextField
              id="image-checksum"
              label="SHA-256"
              value={form.checksum}
              onChange={set("checksum")}
              isRequired
              error={wrong.checksum}
              help="Of the file, as its server publishes it."
            />
          )}
          <TextField
            id="image-name"
            label="Name"
            value={form.name}
            onChange={set("name")}
            isRequired
            error={wrong.name}
          />
          <SelectField
            id="image-project"
            label="Project"
            value={form.project}
            onChange={set("project")}
            error={wrong.project}
            options={projectOptions(projects.all, form.project)}
          />
          <TextField
            id="image-size"
            type="number"
            label="Size, GiB"
            value={form.size}
            onChange={set("size")}
            isRequired
            error={wrong.size}
            help="At least what it unpacks to."
          />
          <Checkbox
            id="image-iso"
            label="It is an ISO, to install from"
            isChecked={form.isIso}
            onChange={(_event, value) => setForm({ ...form, isIso: value })}
          />
          <ActionGroup>
            <Button type="submit" variant="primary" isDisabled={isBusy} isLoading={isBusy}>
              Create
            </Button>
            <Button variant="link" onClick={onClose}>
              Cancel
            </Button>
          </ActionGroup>
        </Form>
      </ModalBody>
    </Modal>
  );
}

export default function Images() {
  const volumes = useObjects("images");
  const sent = useUploads();
  const [isCreating, setCreating] = useState(false);
  /** An image whose file is sent; none is a new one. */
  const [sending, setSending] = useState<{ image?: Image }>();
  const [leaving, setLeaving] = useState<Row>();
  const rows = useMemo(
    () => images(volumes.all).map((image): Row => ({ ...image, upload: sent.find((one) => one.key === image.key) })),
    [volumes.all, sent],
  );
  const items = (row: Row): Item[] => {
    const remove = { label: row.upload ? "Cancel upload" : "Delete", isDanger: true, onClick: () => setLeaving(row) };
    if (row.upload?.state === "broken")
      return [
        { label: "Send again from the beginning", onClick: () => uploads.again(row.key) },
        { label: "Send another file", onClick: () => setSending({ image: row }) },
        { ...remove, label: "Delete" },
      ];
    if (row.takesFile && !row.upload)
      return [{ label: "Send a file", onClick: () => setSending({ image: row }) }, remove];
    return [remove];
  };
  const create = (
    <Flex columnGap={{ default: "columnGapSm" }}>
      <Button variant="primary" onClick={() => setCreating(true)}>
        Create image
      </Button>
      <Button variant="secondary" onClick={() => setSending({})}>
        Upload an image
      </Button>
    </Flex>
  );
  return (
    <>
      <Heading
        title="Images"
        text="What machines start from. A machine gets a copy; the image stays as it is."
        actions={create}
      />
      <List
        label="images"
        rows={rows}
        isWhole={volumes.isWhole}
        columns={COLUMNS}
        rowKey={(row) => row.key}
        actions={(row) => <Kebab of={row.key} items={items(row)} />}
        empty={{
          title: "No images yet",
          text: "Create one from a URL, for example a cloud image of Debian with the SHA-256 from its SHA256SUMS, or upload a file.",
          action: create,
        }}
      />
      {isCreating && <CreateImage onClose={() => setCreating(false)} />}
      {sending && <UploadImage {...sending} onClose={() => setSending(undefined)} />}
      {leaving?.upload && (
        <Confirm
          title={`Cancel upload of ${leaving.name}`}
          label="Cancel upload"
          act={async () => {
            uploads.forget(leaving.key);
            await remove(paths.image(leaving.project, leaving.name));
          }}
          onClose={() => setLeaving(undefined)}
          onDone={() => done(`Cancel upload of ${leaving.name}`)}
        >
          <p>The image and the {bytes(leaving.upload.sent)} that were sent are deleted.</p>
        </Confirm>
      )}
      {leaving && !leaving.upload && (
        <Confirm
          title={`Delete image ${leaving.name}`}
          label="Delete"
          typed={leaving.name}
          act={() => remove(paths.image(leaving.project, leaving.name))}
          onClose={() => setLeaving(undefined)}
          onDone={() => done(`Delete image ${leaving.name}`)}
        >
          <p>
            The image and its {bytes(leaving.size)} are deleted. Machines that were created from it have copies and
            stay.
          </p>
        </Confirm>
      )}
    </>
  );
}
