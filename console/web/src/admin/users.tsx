/** Users and their roles. The server acts with the rights of who asks: without them it refuses, and the page says so. */
import {
  ActionGroup,
  Button,
  Form,
  Label,
  LabelGroup,
  Modal,
  ModalBody,
  ModalHeader,
  Spinner,
  Stack,
  StackItem,
} from "@patternfly/react-core";
import { Table, Tbody, Td, Th, Thead, Tr } from "@patternfly/react-table";
import { type FormEvent, useState } from "react";
import { patch, post, remove } from "../api/client.ts";
import { useFetched } from "../api/fetched.ts";
import { asRefusal, type Refusal } from "../api/refusal.ts";
import { useObjects } from "../api/watch.ts";
import { attempt, done } from "../notices.ts";
import { Confirm } from "../parts/confirm.tsx";
import { SelectField, TextField } from "../parts/fields.tsx";
import { Kebab } from "../parts/kebab.tsx";
import { NewPassword, passwordProblem } from "../parts/new-password.tsx";
import { projectNames } from "../parts/projects.ts";
import { State } from "../parts/state.tsx";
import { FormRefused, Refused } from "../parts/refused.tsx";
import { moment } from "../units.ts";
import { added, type Grant, type Role, ROLES, type User, ways, without, words } from "./grants.ts";
import { ASK } from "./parts.ts";

const CLUSTER = "";

function Grants({ grants, onChange }: { grants: Grant[]; onChange: (grants: Grant[]) => void }) {
  const [role, setRole] = useState<Role>("view");
  const [project, setProject] = useState(CLUSTER);
  const projects = useObjects("projects");
  const add = () => onChange(added(grants, project === CLUSTER ? { role } : { role, project }));
  return (
    <>
      <LabelGroup categoryName="Roles" numLabels={10}>
        {(grants.length > 0 ? grants : []).map((grant) => (
          <Label
            key={words(grant)}
            onClose={() => onChange(without(grants, grant))}
            closeBtnAriaLabel={`Remove ${words(grant)}`}
          >
            {words(grant)}
          </Label>
        ))}
      </LabelGroup>
      <SelectField
        id="grant-role"
        label="Role"
        value={role}
        onChange={(value) => setRole(value as Role)}
        options={ROLES}
        help="View: see. Operate: create, change, start, delete. Administer: also say who may."
      />
      <SelectField
        id="grant-project"
        label="In"
        value={project}
        onChange={setProject}
        options={[
          { value: CLUSTER, label: "The whole cluster" },
          ...projectNames(projects.all, "").map((name) => ({ value: name, label: `Project ${name}` })),
        ]}
      />
      <Button variant="secondary" onClick={add}>
        Add role
      </Button>
    </>
  );
}

function UserForm({ user, onClose, onDone }: { user: User | undefined; onClose: () => void; onDone: () => void }) {
  const [name, setName] = useState(user?.name ?? "");
  const [password, setPassword] = useState("");
  const [again, setAgain] = useState("");
  const [external, setExternal] = useState(user?.external ?? "");
  const { value: sso } = useFetched<{ provider: string | null }>("/console/sso");
  const [grants, setGrants] = useState<Grant[]>(user?.roles ?? []);
  const [refusal, setRefusal] = useState<Refusal>();
  const [isBusy, setBusy] = useState(false);
  const isNew = user === undefined;
  const needsPassword = isNew && external.trim() === "";
  const problem = needsPassword || password !== "" ? passwordProblem(password, again) : "";
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setRefusal(undefined);
    try {
      const typed = {
        roles: grants,
        ...(password === "" ? {} : { password }),
        ...(external === (user?.external ?? "") ? {} : { external }),
      };
      if (isNew) await post("/console/users", { name, ...typed });
      else await patch(`/console/users/${name}`, typed);
      done(isNew ? `Create user ${name}` : `Change user ${name}`);
      onDone();
      onClose();
    } catch (error) {
      setRefusal(asRefusal(error));
      setBusy(false);
    }
  };
  const title = isNew ? "Create user" : `User ${name}`;
  return (
    <Modal variant="medium" isOpen onClose={onClose} aria-labelledby="user-title">
      <ModalHeader title={title} labelId="user-title" />
      <ModalBody>
        <Form onSubmit={(event) => void submit(event)}>
          <FormRefused refusal={refusal} />
          {isNew && (
            <TextField
              id="user-name"
              label="Name"
              value={name}
              onChange={setName}
              isRequired
              help="Lowercase letters, digits and hyphens."
            />
          )}
          {(sso?.provider || external !== "") && (
            <TextField
              id="user-external"
              label={`Name at ${sso?.provider ?? "the identity provider"}`}
              value={external}
              onChange={setExternal}
              help="Who logs in there as this is this user. Then no password is needed; kubectl with a token of it has the same roles."
            />
          )}
          <NewPassword password={password} again={again} onPassword={setPassword} onAgain={setAgain} />
          <Grants grants={grants} onChange={setGrants} />
          <ActionGroup>
            <Button
              type="submit"
              variant="primary"
              isLoading={isBusy}
              isDisabled={isBusy || name === "" || problem !== ""}
            >
              {isNew ? "Create" : "Save"}
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

type Open = { kind: "form"; user: User | undefined } | { kind: "delete" | "second"; user: User } | undefined;

export function Users({ self }: { self: string }) {
  const { value, refusal, reload } = useFetched<User[]>("/console/users");
  const [open, setOpen] = useState<Open>();
  // A role may be lost while the page is open.
  if (refusal?.code === 403) return <p>{ASK}</p>;
  if (refusal) return <Refused refusal={refusal} />;
  if (!value) return <Spinner aria-label="Reading users" />;
  const able = (user: User, disabled: boolean) =>
    void attempt(`${disabled ? "Disable" : "Enable"} user ${user.name}`, () =>
      patch(`/console/users/${user.name}`, { disabled }),
    ).then((isDone) => isDone && reload());
  return (
    <Stack hasGutter>
      <StackItem>
        <Button variant="primary" onClick={() => setOpen({ kind: "form", user: undefined })}>
          Create user
        </Button>
      </StackItem>
      <StackItem>
        <Table aria-label="Users" variant="compact">
          <Thead>
            <Tr>
              <Th>User</Th>
              <Th>Roles</Th>
              <Th>State</Th>
              <Th>Logs in by</Th>
              <Th>Second factor</Th>
              <Th>Created</Th>
              <Th screenReaderText="Actions" />
            </Tr>
          </Thead>
          <Tbody>
            {value.map((user) => (
              <Tr key={user.name}>
                <Td dataLabel="User">{user.name === self ? `${user.name} (you)` : user.name}</Td>
                <Td dataLabel="Roles">{user.roles.map(words).join(", ") || "none"}</Td>
                <Td dataLabel="State">
                  {user.disabled ? <State tone="quiet">Disabled</State> : <State tone="success">May log in</State>}
                </Td>
                <Td dataLabel="Logs in by">{ways(user)}</Td>
                <Td dataLabel="Second factor">{user.secondFactor ? "Yes" : "–"}</Td>
                <Td dataLabel="Created">{moment(user.created)}</Td>
                <Td isActionCell>
                  {/* Nobody changes his own roles or deletes himself. */}
                  {user.name !== self && (
                    <Kebab
                      of={user.name}
                      items={[
                        { label: "Change roles or password", onClick: () => setOpen({ kind: "form", user }) },
                        { label: user.disabled ? "Enable" : "Disable", onClick: () => able(user, !user.disabled) },
                        ...(user.secondFactor
                          ? [
                              {
                                label: "Remove second factor",
                                isDanger: true,
                                onClick: () => setOpen({ kind: "second", user }),
                              },
                            ]
                          : []),
                        { label: "Delete", isDanger: true, onClick: () => setOpen({ kind: "delete", user }) },
                      ]}
                    />
                  )}
                </Td>
              </Tr>
            ))}
          </Tbody>
        </Table>
      </StackItem>
      {open?.kind === "form" && <UserForm user={open.user} onClose={() => setOpen(undefined)} onDone={reload} />}
      {open?.kind === "second" && (
        <Confirm
          title={`Remove the second factor of ${open.user.name}`}
          label="Remove"
          act={() => remove(`/console/users/${open.user.name}/second`)}
          onClose={() => setOpen(undefined)}
          onDone={() => {
            done(`Remove the second factor of ${open.user.name}`);
            reload();
          }}
        >
          <p>
            {open.user.name} then logs in with the password alone, and can set up another app. Be sure that it is{" "}
            {open.user.name} who asks for it.
          </p>
        </Confirm>
      )}
      {open?.kind === "delete" && (
        <Confirm
          title={`Delete user ${open.user.name}`}
          label="Delete"
          typed={open.user.name}
          act={() => remove(`/console/users/${open.user.name}`)}
          onClose={() => setOpen(undefined)}
          onDone={() => {
            done(`Delete user ${open.user.name}`);
            reload();
          }}
        >
          <p>Sessions and tokens of {open.user.name} end at once. Machines stay.</p>
        </Confirm>
      )}
    </Stack>
  );
}
