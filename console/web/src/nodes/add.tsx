/**
 * Adds a node: what its node.toml needs, ready to copy, with a token that ends within the hour.
 *
 * The console makes the token (`console/src/join.rs`). A node of the control plane gets the keys of the cluster, which no API has, so
 * its table is made on another one by a command.
 */
import {
  ActionGroup,
  Alert,
  Button,
  Form,
  FormGroup,
  List,
  ListItem,
  Modal,
  ModalBody,
  ModalHeader,
  Radio,
} from "@patternfly/react-core";
import { type FormEvent, useState } from "react";
import { post } from "../api/client.ts";
import * as paths from "../api/paths.ts";
import { asRefusal, type Refusal } from "../api/refusal.ts";
import { Code } from "../parts/code.tsx";
import { useNow } from "../parts/countdown.tsx";
import { TextField } from "../parts/fields.tsx";
import { FormRefused } from "../parts/refused.tsx";
import { moment } from "../units.ts";

interface Made {
  table: string;
  /** Seconds since 1970. */
  ends: number;
}

/** The command that makes the table of a node of the control plane. */
export const controlPlaneCommand = (name: string): string =>
  `sheaf-agent token create --control-plane${name === "" ? "" : ` --node ${name}`}`;

/** Minutes that are left, rounded down; none once it has ended. */
export const minutesLeft = (ends: number, now: number): number => Math.max(0, Math.floor((ends - now / 1000) / 60));

function Table({ made }: { made: Made }) {
  const now = useNow(true);
  const left = minutesLeft(made.ends, now);
  return (
    <>
      {left === 0 ? (
        <Alert variant="warning" isInline component="h2" title="The token has ended">
          Close this dialog and make another.
        </Alert>
      ) : (
        <Alert variant="success" isInline component="h2" title={`Valid for one node, for ${left} more minutes`}>
          Until {moment(made.ends)}. It is not shown again; a token that is lost is replaced by another.
        </Alert>
      )}
      <Code id="join-table" what="the table" text={made.table} />
      <List>
        <ListItem>
          Installing: put the table into the file <code>node.toml</code> of the medium, or enter its values in the
          installer.
        </ListItem>
        <ListItem>
          Installed already: put it in place of the table <code>[cluster]</code> in <code>/state/node.toml</code>, and
          restart the machine.
        </ListItem>
        <ListItem>The node shows on its screen how far it is, and appears in the list when it has joined.</ListItem>
      </List>
    </>
  );
}

export function AddNode({ onClose }: { onClose: () => void }) {
  const [role, setRole] = useState<"machines" | "control-plane">("machines");
  const [name, setName] = useState("");
  const [made, setMade] = useState<Made>();
  const [refusal, setRefusal] = useState<Refusal>();
  const [isBusy, setBusy] = useState(false);
  const make = async (event: FormEvent) => {
    event.preventDefault();
    if (role === "control-plane") return;
    setBusy(true);
    setRefusal(undefined);
    try {
      setMade(await post<Made>(paths.joinTokens, name === "" ? {} : { node: name }));
    } catch (error) {
      setRefusal(asRefusal(error));
    } finally {
      setBusy(false);
    }
  };
  return (
    <Modal variant="medium" isOpen onClose={onClose} aria-labelledby="add-node">
      <ModalHeader title="Add a node" labelId="add-node" description="A machine with Sheaf joins with a token." />
      <ModalBody>
        {made ? (
          <>
            <Table made={made} />
            <ActionGroup>
              <Button variant="primary" onClick={onClose}>
                Close
              </Button>
            </ActionGroup>
          </>
        ) : (
          <Form onSubmit={(event) => void make(event)} noValidate>
            <FormRefused refusal={refusal} />
            <FormGroup role="radiogroup" label="What it does" fieldId="add-role">
              <Radio
                id="add-role-machines"
                name="add-role"
                label="Runs machines"
                isChecked={role === "machines"}
                onChange={() => setRole("machines")}
              />
              <Radio
                id="add-role-control-plane"
                name="add-role"
                label="Runs machines and a part of the control plane"
                description="With three such nodes one may be lost. Two are worse than one."
                isChecked={role === "control-plane"}
                onChange={() => setRole("control-plane")}
              />
            </FormGroup>
            <TextField
              id="add-name"
              label="Name of the node"
              value={name}
              onChange={setName}
              placeholder="node-4"
              help="Then no other node can use the token. Without a name, any one node can."
              error={refusal?.reason === "Invalid" ? refusal.message : undefined}
            />
            {role === "control-plane" ? (
              <>
                <Alert variant="info" isInline component="h2" title="Made on a node of the control plane">
                  Such a node gets the keys of the cluster, which only nodes of the control plane have. Run this as root
                  on one of them; it prints the table for the new node.
                </Alert>
                <Code id="join-command" what="the command" text={controlPlaneCommand(name.trim())} />
                <ActionGroup>
                  <Button variant="primary" onClick={onClose}>
                    Close
                  </Button>
                </ActionGroup>
              </>
            ) : (
              <ActionGroup>
                <Button type="submit" variant="primary" isDisabled={isBusy} isLoading={isBusy}>
                  Make token
                </Button>
                <Button variant="link" onClick={onClose}>
                  Cancel
                </Button>
              </ActionGroup>
            )}
          </Form>
        )}
      </ModalBody>
    </Modal>
  );
}
