/** Keys and passwords of a machine: which there are, how they get into the guest; add, remove. */
import { Button, Card, CardBody, CardTitle, Flex } from "@patternfly/react-core";
import { Table, Tbody, Td, Th, Thead, Tr } from "@patternfly/react-table";
import { useState } from "react";
import { patch, post } from "../api/client.ts";
import * as paths from "../api/paths.ts";
import { done } from "../notices.ts";
import { Confirm } from "../parts/confirm.tsx";
import { AreaField, SelectField, TextField } from "../parts/fields.tsx";
import { Dialog } from "../parts/dialog.tsx";
import { Kebab } from "../parts/kebab.tsx";
import { NewPassword, passwordProblem } from "../parts/new-password.tsx";
import type { AccessCredential } from "../types/crds.ts";
import { keyProblem, keys } from "./create/build.ts";
import {
  credentialsOf,
  seededKeys,
  userProblem,
  type Way,
  ways,
  withKeys,
  withoutCredential,
  withPassword,
} from "./access.ts";
import { condition, type Machine } from "./view.ts";

const WAYS: Record<Way, string> = {
  agent: "By the guest's agent, while it runs",
  "cloud-init": "By cloud-init, when it sets up the guest",
};

const change = (machine: Machine, body: unknown) => patch(paths.machine(machine.project, machine.name), body);

/** What a credential is, how it is set, where it is kept. */
function shown({ sshPublicKey, userPassword }: AccessCredential): [string, string, string] {
  if (userPassword) return ["Passwords", WAYS.agent, userPassword.source.secret.secretName];
  const users = sshPublicKey?.propagationMethod.qemuGuestAgent?.users;
  return [
    users ? `SSH keys of ${users.join(", ")}` : "SSH keys",
    users ? WAYS.agent : WAYS["cloud-init"],
    sshPublicKey?.source.secret.secretName ?? "–",
  ];
}

function AddKey({ machine, onClose }: { machine: Machine; onClose: () => void }) {
  const offered = ways(machine.vm);
  const [text, setText] = useState("");
  const [way, setWay] = useState<Way>("agent");
  const [user, setUser] = useState("");
  return (
    <Dialog
      id="key"
      title={`Add SSH keys to ${machine.name}`}
      label="Add"
      text={machine.vmi ? "They are set after the next restart of the machine." : "They are set when the machine runs."}
      problems={{
        text: keys(text).length === 0 ? "Paste a public key." : keyProblem(text),
        user: way === "agent" ? userProblem(user) : undefined,
      }}
      act={async () => {
        const made = withKeys(machine.vm, text, way, user, Date.now());
        await post(paths.secret(machine.project), made.secret);
        await change(machine, made.patch);
        done(`Add SSH keys to ${machine.name}`);
      }}
      onClose={onClose}
    >
      {(at) => (
        <>
          <AreaField
            id="key-text"
            label="Public SSH keys"
            value={text}
            onChange={setText}
            error={at("text", "stringData")}
            placeholder="ssh-ed25519 AAAA…"
            help="One a line."
          />
          <SelectField
            id="key-way"
            label="How they get into the guest"
            value={way}
            onChange={(value) => setWay(value as Way)}
            error={at("way", "spec.template.spec.accessCredentials")}
            help={
              way === "agent"
                ? "Needs qemu-guest-agent 5.2 or later in the guest. Other keys of this user are removed."
                : "A guest that is set up already does not take them."
            }
            options={offered.map((value) => ({ value, label: WAYS[value] }))}
          />
          {way === "agent" && (
            <TextField
              id="key-user"
              label="User in the guest"
              value={user}
              onChange={setUser}
              isRequired
              error={at("user")}
            />
          )}
        </>
      )}
    </Dialog>
  );
}

function SetPassword({ machine, onClose }: { machine: Machine; onClose: () => void }) {
  const [user, setUser] = useState("");
  const [password, setPassword] = useState("");
  const [again, setAgain] = useState("");
  return (
    <Dialog
      id="password"
      title={`Set a password in ${machine.name}`}
      label="Set"
      text={machine.vmi ? "It is set after the next restart of the machine." : "It is set when the machine runs."}
      problems={{ user: userProblem(user), new: passwordProblem(password, again) || undefined }}
      act={async () => {
        const made = withPassword(machine.vm, user, password, Date.now());
        await post(paths.secret(machine.project), made.secret);
        await change(machine, made.patch);
        done(`Set the password of ${user} in ${machine.name}`);
      }}
      onClose={onClose}
    >
      {(at) => (
        <>
          <TextField
            id="password-user"
            label="User in the guest"
            value={user}
            onChange={setUser}
            isRequired
            error={at("user", "spec.template.spec.accessCredentials")}
            help="Needs qemu-guest-agent in the guest."
          />
          <NewPassword
            id="password-new"
            error={at("new")}
            password={password}
            again={again}
            onPassword={setPassword}
            onAgain={setAgain}
          />
        </>
      )}
    </Dialog>
  );
}

export function Credentials({ machine }: { machine: Machine }) {
  const [open, setOpen] = useState<"key" | "password" | number>();
  const close = () => setOpen(undefined);
  const all = credentialsOf(machine.vm);
  const seeded = seededKeys(machine.vm);
  const synchronized = condition(machine.vmi?.status?.conditions, "AccessCredentialsSynchronized");
  return (
    <Card>
      <CardTitle component="h2">Keys and passwords</CardTitle>
      <CardBody>
        {synchronized?.status === "False" && <p>Not set in the guest yet: {synchronized.message}</p>}
        {seeded.length > 0 && <p>Created with the SSH keys {seeded.join(", ")}.</p>}
        {all.length === 0 ? (
          <p>None was added.</p>
        ) : (
          <Table aria-label={`Keys and passwords of ${machine.name}`} variant="compact">
            <Thead>
              <Tr>
                <Th>What</Th>
                <Th>How it is set</Th>
                <Th>Kept in</Th>
                <Th screenReaderText="Actions" />
              </Tr>
            </Thead>
            <Tbody>
              {all.map((credential, index) => {
                const [what, how, secret] = shown(credential);
                return (
                  <Tr key={secret}>
                    <Td dataLabel="What">{what}</Td>
                    <Td dataLabel="How it is set">{how}</Td>
                    <Td dataLabel="Kept in">{secret}</Td>
                    <Td isActionCell>
                      <Kebab of={secret} items={[{ label: "Remove", isDanger: true, onClick: () => setOpen(index) }]} />
                    </Td>
                  </Tr>
                );
              })}
            </Tbody>
          </Table>
        )}
        <Flex>
          <Button variant="secondary" onClick={() => setOpen("key")}>
            Add SSH keys
          </Button>
          <Button variant="secondary" onClick={() => setOpen("password")}>
            Set a password
          </Button>
        </Flex>
      </CardBody>
      {open === "key" && <AddKey machine={machine} onClose={close} />}
      {open === "password" && <SetPassword machine={machine} onClose={close} />}
      {typeof open === "number" && (
        <Confirm
          title={`Remove a credential of ${machine.name}`}
          label="Remove"
          act={() => change(machine, withoutCredential(machine.vm, open))}
          onClose={close}
          onDone={() => done(`Remove a credential of ${machine.name}`)}
        >
          It is not set again. What it has set stays in the guest until it is changed there.
        </Confirm>
      )}
    </Card>
  );
}
