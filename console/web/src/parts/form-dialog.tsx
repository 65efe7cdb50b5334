/**
 * A dialog with entries: what is wrong stands at its entry, a refusal of the server at the entry that it is about, else above.
 *
 * Route in: entries, what is wrong with them by their ids. Route out: a request; it stays open while that is refused.
 */
import { Button, Form, Modal, ModalBody, ModalFooter, ModalHeader } from "@patternfly/react-core";
import { type ReactNode, useState } from "react";
import { asRefusal, type Refusal } from "../api/refusal.ts";
import { FormRefused } from "./refused.tsx";

/** What is wrong with the entry of an id, which the server knows by these fields. */
export type At = (id: string, ...fields: string[]) => string | undefined;

interface Props {
  title: string;
  /** What the button says: the act. */
  label: string;
  text?: ReactNode;
  /** By the ids of entries; in their order. */
  wrong: Record<string, string | undefined>;
  act: () => Promise<unknown>;
  onClose: () => void;
  /** After the act; otherwise it closes. */
  onDone?: () => void;
  children: (at: At) => ReactNode;
}

export function FormDialog({ title, label, text, wrong, act, onClose, onDone = onClose, children }: Props) {
  const [isChecked, setChecked] = useState(false);
  const [refusal, setRefusal] = useState<Refusal>();
  const [isBusy, setBusy] = useState(false);
  const at: At = (id, ...fields) => {
    const refused = fields.map((field) => refusal?.at(field)).find((message) => message !== undefined);
    return isChecked ? (wrong[id] ?? refused) : refused;
  };
  const submit = async () => {
    setChecked(true);
    const first = Object.keys(wrong).find((id) => wrong[id]);
    if (first) {
      document.getElementById(first)?.focus();
      return;
    }
    setBusy(true);
    setRefusal(undefined);
    try {
      await act();
      onDone();
    } catch (error) {
      setRefusal(asRefusal(error));
      setBusy(false);
    }
  };
  return (
    <Modal variant="small" isOpen onClose={onClose} aria-labelledby="form-title">
      <ModalHeader title={title} labelId="form-title" description={text} />
      <ModalBody>
        <Form
          id="form-dialog"
          noValidate
          onSubmit={(event) => {
            event.preventDefault();
            if (!isBusy) void submit();
          }}
        >
          <FormRefused refusal={refusal} />
          {children(at)}
        </Form>
      </ModalBody>
      <ModalFooter>
        <Button type="submit" form="form-dialog" variant="primary" isDisabled={isBusy} isLoading={isBusy}>
          {label}
        </Button>
        <Button variant="link" onClick={onClose}>
          Cancel
        </Button>
      </ModalFooter>
    </Modal>
  );
}
