/** Sends a file of this computer into an image: a new one, or one that waits for its file. */
import {
  ActionGroup,
  Button,
  FileUpload,
  Form,
  FormGroup,
  FormHelperText,
  HelperText,
  HelperTextItem,
  Modal,
  ModalBody,
  ModalHeader,
} from "@patternfly/react-core";
import { type FormEvent, useState } from "react";
import { post } from "../api/client.ts";
import * as paths from "../api/paths.ts";
import { asRefusal, type Refusal } from "../api/refusal.ts";
import { FormRefused } from "../parts/refused.tsx";
import { bytes } from "../units.ts";
import { ImageFields } from "./fields.tsx";
import { HEAD, known, type Known, named } from "./file.ts";
import { uploads } from "./uploads.ts";
import { buildUpload, checkUpload, holding, type Image, type NewUpload } from "./view.ts";

const FIELDS: [keyof NewUpload, string][] = [
  ["name", "metadata.name"],
  ["project", "metadata.namespace"],
  ["size", "spec.storage"],
];

/** What the entries are for an image that is there. */
const of = (image: Image | undefined): NewUpload => ({
  project: image?.project ?? "default",
  name: image?.name ?? "",
  size: image?.size ? holding(image.size) : "10",
  isIso: image?.isIso ?? false,
});

export function UploadImage({ image, onClose }: { image?: Image; onClose: () => void }) {
  const [form, setForm] = useState<NewUpload>(of(image));
  const [file, setFile] = useState<File>();
  const [found, setFound] = useState<Known>();
  const [isChecked, setChecked] = useState(false);
  const [refusal, setRefusal] = useState<Refusal>();
  const [isBusy, setBusy] = useState(false);
  const set = (entry: keyof NewUpload) => (value: string) => {
    setRefusal(undefined);
    setForm((before) => ({ ...before, [entry]: value }));
  };
  const choose = async (chosen: File | undefined) => {
    setFile(chosen);
    setFound(undefined);
    if (!chosen) return;
    const first = new Uint8Array(await chosen.slice(0, HEAD).arrayBuffer());
    const what = known(first, chosen.size, chosen.name);
    setFound(what);
    if (image) return;
    setForm((before) => ({
      ...before,
      // A name that was not typed follows the file.
      name: before.name === "" || before.name === named(file?.name ?? "") ? named(chosen.name) : before.name,
      isIso: what.isIso,
      size: what.bytes === undefined ? before.size : holding(what.bytes),
    }));
  };
  const wrong = isChecked || found?.wrong ? checkUpload(form, found) : {};
  for (const [entry, field] of FIELDS) {
    const message = refusal?.at(field);
    if (message) wrong[entry] ??= message;
  }
  if (refusal?.reason === "AlreadyExists") wrong.name ??= "There is an image or a disk of this name in the project.";
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setChecked(true);
    const first = Object.keys(checkUpload(form, found))[0];
    if (first || !file) {
      document.getElementById(first === "file" ? "upload-file-browse-button" : `upload-${first}`)?.focus();
      return;
    }
    setBusy(true);
    try {
      if (!image) await post(paths.image(form.project), buildUpload(form));
      uploads.start(form.project, form.name, file);
      onClose();
    } catch (error) {
      setRefusal(asRefusal(error));
      setBusy(false);
    }
  };
  const help =
    file && found && !found.wrong
      ? `${bytes(file.size)}, ${found.format}.`
      : "raw, qcow2 or ISO, plain or compressed by xz, zstd or gzip.";
  return (
    <Modal variant="medium" isOpen onClose={onClose} aria-labelledby="upload-image">
      <ModalHeader
        title={image ? `Send a file into ${image.name}` : "Upload an image"}
        labelId="upload-image"
        description="It continues while you look at other pages, and ends when this window is closed."
      />
      <ModalBody>
        <Form onSubmit={(event) => void submit(event)} noValidate>
          <FormRefused refusal={refusal} />
          <FormGroup label="File" fieldId="upload-file" isRequired>
            <FileUpload
              id="upload-file"
              filename={file?.name ?? ""}
              filenamePlaceholder="Drop a file here, or choose one"
              filenameAriaLabel="Name of the file"
              browseButtonText="Choose"
              hideDefaultPreview
              onFileInputChange={(_event, chosen) => void choose(chosen)}
              onClearClick={() => void choose(undefined)}
              validated={wrong.file ? "error" : "default"}
            />
            <FormHelperText>
              <HelperText id="upload-file-help" isLiveRegion>
                <HelperTextItem variant={wrong.file ? "error" : "default"}>{wrong.file ?? help}</HelperTextItem>
              </HelperText>
            </FormHelperText>
          </FormGroup>
          {!image && (
            <ImageFields
              id="upload"
              value={form}
              onText={set}
              onIso={(isIso) => setForm({ ...form, isIso })}
              wrong={wrong}
              help={
                found?.bytes === undefined
                  ? "At least what it unpacks to."
                  : `From the file: ${bytes(found.bytes)}. Machines may have larger copies.`
              }
            />
          )}
          {image && wrong.size && (
            <HelperText isLiveRegion>
              <HelperTextItem variant="error">
                {image.name} has {form.size} GiB, and the file needs more: delete the image, and upload the file as a
                new one.
              </HelperTextItem>
            </HelperText>
          )}
          <ActionGroup>
            <Button type="submit" variant="primary" isDisabled={isBusy} isLoading={isBusy}>
              Upload
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
