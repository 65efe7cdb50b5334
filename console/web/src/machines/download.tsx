/** Disks of a machine that is stopped, or of a snapshot, as files: made ready on the server, saved by the browser. */
import {
  Alert,
  Button,
  Flex,
  Modal,
  ModalBody,
  ModalFooter,
  ModalHeader,
  Spinner,
  Stack,
  StackItem,
} from "@patternfly/react-core";
import { useEffect, useRef, useState } from "react";
import { post, remove } from "../api/client.ts";
import { usePolled } from "../api/fetched.ts";
import * as paths from "../api/paths.ts";
import { asRefusal, type Refusal } from "../api/refusal.ts";
import { attempt } from "../notices.ts";
import { Refused } from "../parts/refused.tsx";
import type { VirtualMachineExport } from "../types/crds.ts";
import { moment } from "../units.ts";
import { exporting, type From } from "./copies.ts";
import { condition, type Machine } from "./view.ts";

/** Between two looks, in ms. */
const EVERY = 2000;

function Ready({ project, name, from }: { project: string; name: string; from: From }) {
  const { value, refusal } = usePolled<VirtualMachineExport>(paths.exported(project, name), EVERY);
  if (refusal) return <Refused refusal={refusal} />;
  const { status } = value ?? {};
  if (status?.phase === "Skipped") return <p>{from.name} has no disks that can be downloaded.</p>;
  if (status?.phase !== "Ready")
    return (
      <p>
        <Spinner size="md" aria-label="Preparing" /> {condition(status?.conditions, "Ready")?.message ?? "Preparing."}
      </p>
    );
  const volumes = status.links?.external?.volumes ?? status.links?.internal?.volumes ?? [];
  return (
    <Stack hasGutter>
      {volumes.map((volume) => (
        <StackItem key={volume.name}>
          <Flex>
            <strong>{volume.name}</strong>
            <Button
              component="a"
              download
              variant="secondary"
              href={paths.download(project, name, volume.name, "disk.img.gz")}
            >
              Download {volume.name}, packed by gzip
            </Button>
            <Button
              component="a"
              download
              variant="secondary"
              href={paths.download(project, name, volume.name, "disk.img")}
            >
              Download {volume.name}, raw
            </Button>
          </Flex>
        </StackItem>
      ))}
      <StackItem>
        A raw file can be resumed by the browser. The links are valid until {moment(status.ttlExpirationTime)}; a
        machine that starts cuts them.
      </StackItem>
    </Stack>
  );
}

export function Download({ from, machine, onClose }: { from: From; machine?: Machine; onClose: () => void }) {
  const [name, setName] = useState<string>();
  const [refusal, setRefusal] = useState<Refusal>();
  const begun = useRef(false);
  const isRunning = machine?.vmi !== undefined;
  const { project } = from;
  useEffect(() => {
    // Once, also where effects run twice.
    if (isRunning || begun.current) return;
    begun.current = true;
    const object = exporting(from, Date.now());
    post(paths.exported(project), object).then(
      () => setName(object.metadata.name),
      (error: unknown) => setRefusal(asRefusal(error)),
    );
  }, [from, isRunning, project]);
  return (
    <Modal variant="medium" isOpen onClose={onClose} aria-labelledby="download-title">
      <ModalHeader title={`Download disks of ${from.name}`} labelId="download-title" />
      <ModalBody>
        {isRunning ? (
          <Alert variant="info" isInline component="h2" title="The machine runs">
            Shut it down first, or take a snapshot and download its disks from the tab Snapshots while the machine runs.
          </Alert>
        ) : refusal ? (
          <Refused refusal={refusal} />
        ) : name ? (
          <Ready project={project} name={name} from={from} />
        ) : (
          <Spinner size="md" aria-label="Preparing" />
        )}
      </ModalBody>
      <ModalFooter>
        <Button variant="primary" onClick={onClose}>
          Close
        </Button>
        {name && (
          <Button
            variant="link"
            isDanger
            onClick={() => {
              void attempt(`End downloads of ${from.name}`, () => remove(paths.exported(project, name)));
              onClose();
            }}
          >
            End downloads
          </Button>
        )}
      </ModalFooter>
    </Modal>
  );
}
