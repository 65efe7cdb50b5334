/**
 * A form in a dialog: entries, what is wrong with each, and the server's refusal at the entry that it is about.
 *
 * Why here: forms of machines, nodes, pools, networks and updates check, send and refuse in the same way. Route in: what is wrong, by
 * entry; the request. Route out: the request, once nothing is wrong.
 */
import { Button, Form, Modal, ModalBody, ModalFooter, ModalHeader } from "@patternfly/react-core";
import { type FormEvent, type ReactNode, useState } from "react";
import { asRefusal, type Refusal } from "../api/refusal.ts";
import { FormRefused } from "./refused.tsx";

/** What is wrong with an entry: as the form knows it, or as the server says it of one of the fields. */
export type At = (entry: string, ...fields: string[]) => string | undefined;

interface Props {
  /** Before the identifiers of the entries: `${id}-name`. */
  id: string;
  title: string;
  text?: ReactNode;
  /** What the button says: the act. */
  label: string;
  isDanger?: boolean;
  isWide?: boolean;
  /** What is wrong, by entry, in the order of the form. */
  problems: Partial<Record<string, string>>;
  act: () => Promise<unknown>;
  onClose: () => void;
  /** After the act, once it is closed. */
  onDone?: () => void;
  /** It is not closed after the act: what follows is shown in its place. */
  staysOpen?: boolean;
  children: (at: At) => ReactNode;
}

export function Dialog({
  id,
  title,
  text,
  label,
  isDanger = false,
  isWide = false,
  problems,
  act,
  onClose,
  onDone,
  staysOpen = false,
  children,
}: Props) {
  const [isChecked, setChecked] = useState(false);
  const [refusal, setRefusal] = useState<Refusal>();
  const [isBusy, setBusy] = useState(false);
  const at: At = (entry, ...fields) =>
    (isChecked ? problems[entry] : undefined) ??
    fields.map((field) => refusal?.at(field)).find((message) => message !== undefined);
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    if (isBusy) return;
    setChecked(true);
    const first = Object.keys(problems).find((entry) => problems[entry]);
    if (first) {
      document.getElementById(`${id}-${first}`)?.focus();
      return;
    }
    setBusy(true);
    setRefusal(undefined);
    try {
      await act();
      if (!staysOpen) onClose();
      onDone?.();
    } catch (error) {
      setRefusal(asRefusal(error));
      setBusy(false);
    }
  };
  return (
    <Modal variant={isWide ? "medium" : "small"} isOpen onClose={onClose} aria-labelledby={`${id}-title`}>
      <ModalHeader
        title={title}
        labelId={`${id}-title`}
        description={text}
        {...(isDanger ? { titleIconVariant: "warning" as const } : {})}
      />
      <ModalBody>
        {/* What was refused is about what was sent. */}
        <Form
          id={`${id}-form`}
          onSubmit={(event) => void submit(event)}
          onChange={() => setRefusal(undefined)}
          noValidate
        >
          <FormRefused refusal={refusal} />
          {children(at)}
        </Form>
      </ModalBody>
      <ModalFooter>
        <Button
          type="submit"
          form={`${id}-form`}
          variant={isDanger ? "danger" : "primary"}
          isDisabled={isBusy}
          isLoading={isBusy}
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
