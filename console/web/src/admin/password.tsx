/** The own password. All other sessions and all tokens end with the old one. */
import { ActionGroup, Button, Card, CardBody, CardTitle, Form } from "@patternfly/react-core";
import { type FormEvent, useState } from "react";
import { post } from "../api/client.ts";
import { asRefusal, type Refusal } from "../api/refusal.ts";
import { done } from "../notices.ts";
import { TextField } from "../parts/fields.tsx";
import { NewPassword, passwordProblem } from "../parts/new-password.tsx";
import { FormRefused } from "../parts/refused.tsx";

export function OwnPassword({ user }: { user: string }) {
  const [old, setOld] = useState("");
  const [password, setPassword] = useState("");
  const [again, setAgain] = useState("");
  const [refusal, setRefusal] = useState<Refusal>();
  const [isBusy, setBusy] = useState(false);
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setRefusal(undefined);
    try {
      await post("/console/password", { old, new: password });
      done("The password was changed");
      setOld("");
      setPassword("");
      setAgain("");
    } catch (error) {
      setRefusal(asRefusal(error));
    } finally {
      setBusy(false);
    }
  };
  return (
    <Card>
      <CardTitle component="h2">Password of {user}</CardTitle>
      <CardBody>
        <Form isWidthLimited onSubmit={(event) => void submit(event)}>
          <FormRefused refusal={refusal} />
          <TextField
            id="old-password"
            type="password"
            label="Old password"
            autoComplete="current-password"
            value={old}
            onChange={setOld}
            isRequired
          />
          <NewPassword password={password} again={again} onPassword={setPassword} onAgain={setAgain} />
          <ActionGroup>
            <Button
              type="submit"
              variant="primary"
              isLoading={isBusy}
              isDisabled={isBusy || old === "" || passwordProblem(password, again) !== ""}
            >
              Change the password
            </Button>
            All your other sessions and all your tokens end.
          </ActionGroup>
        </Form>
      </CardBody>
    </Card>
  );
}
