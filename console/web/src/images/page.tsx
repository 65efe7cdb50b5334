/** Images of all projects: list, create from a URL or a registry, upload, delete. */
import { Button, Flex, Progress, ProgressSize } from "@patternfly/react-core";
import { useMemo, useState } from "react";
import { remove } from "../api/client.ts";
import * as paths from "../api/paths.ts";
import { useObjects } from "../api/watch.ts";
import { List, type Column } from "../list/list.tsx";
import { done } from "../notices.ts";
import { Confirm } from "../parts/confirm.tsx";
import { Heading } from "../parts/heading.tsx";
import { type Item, Kebab } from "../parts/kebab.tsx";
import { State } from "../parts/state.tsx";
import { age, bytes } from "../units.ts";
import { CreateImage } from "./create.tsx";
import { UploadImage } from "./upload.tsx";
import { told, type Upload, uploads, useUploads } from "./uploads.ts";
import { type Image, images } from "./view.ts";

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
