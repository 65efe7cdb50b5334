/** The YAML of an object in a dialog: one click away from every list. */
import { Bullseye, Modal, ModalBody, ModalHeader, Spinner } from "@patternfly/react-core";
import { lazy, Suspense } from "react";

const Editor = lazy(() => import("../yaml/editor.tsx"));

export function YamlDialog({ path, what, onClose }: { path: string; what: string; onClose: () => void }) {
  return (
    <Modal variant="large" isOpen onClose={onClose} aria-labelledby="yaml-title">
      <ModalHeader title={`YAML of ${what}`} labelId="yaml-title" />
      <ModalBody>
        <Suspense
          fallback={
            <Bullseye>
              <Spinner aria-label="Loading the editor" />
            </Bullseye>
          }
        >
          <Editor path={path} what={what} />
        </Suspense>
      </ModalBody>
    </Modal>
  );
}
