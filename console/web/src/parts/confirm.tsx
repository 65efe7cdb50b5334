/**
 * A question before something is lost: what is lost, and, if data are, the name to type.
 *
 * Nothing is asked before what can be undone. Route in: what is done. Route out: a request, or the refusal in the dialog.
 */
import { Button, Form, Modal, ModalBody, ModalFooter, ModalHeader } from "@patternfly/react-core";
import { type ReactNode, useState } from "react";
import { asRefusal, type Refusal } from "../api/refusal.ts";
import { TextField } from "./fields.tsx";
import { Refused } from "./refused.tsx";

interface Props {
  title: string;
  /** What the button says: the act. */
  label: string;
  children: ReactNode;
  /** What is typed to confirm; nothing if no data are lost. */
  typed?: string | undefined;
  isDanger?: boolean;
  act: () => Promise<unknown>;
  onClose: () => void;
  onDone?: () => void;
}

export function Confirm({ title, label, children, typed, isDanger = true, act, onClose, onDone }: Props) {
  const [text, setText] = useState("");
  const [refusal, setRefusal] = useState<Refusal>();
  const [isBusy, setBusy] = useState(false);
  const isConfirmed = typed === undefined || text === typed;
  const go = async () => {
    setBusy(true);
    try {
      await act();
      onClose();
      onDone?.();
    } catch (error) {
      setRefusal(asRefusal(error));
      setBusy(false);
    }
  };
  return (
    <Modal variant="small" isOpen onClose={onClose} aria-labelledby="confirm-title" aria-describedby="confirm-body">
      <ModalHeader
        title={title}
        labelId="confirm-title"
        {...(isDanger ? { titleIconVariant: "warning" as const } : {})}
      />
      <ModalBody id="confirm-body">
        <Refused refusal={refusal} />
        {children}
        {typed !== undefined && (
          <Form
            onSubmit={(event) => {
              event.preventDefault();
              if (isConfirmed && !isBusy) void go();
            }}
          >
            <TextField
              id="confirm-name"
              label={`Type ${typed} to confirm`}
              value={text}
              onChange={setText}
              isRequired
            />
          </Form>
        )}
      </ModalBody>
      <ModalFooter>
        <Button
          variant={isDanger ? "danger" : "primary"}
          isDisabled={!isConfirmed || isBusy}
          isLoading={isBusy}
          onClick={() => void go()}
        >
          {label}
        </Button>
        <Button variant="link" onClick={onClose}>
          Cancel
        </Button>
      </ModalFooter>
    </Modal>
  );
}
