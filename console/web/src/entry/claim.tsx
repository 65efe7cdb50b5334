/**
 * The first administrator: claimed by the code on the screen of a control-plane node (docs/console.md, "The first
 * administrator").
 */
import { ActionGroup, Button, Form, LoginPage } from "@patternfly/react-core";
import { type FormEvent, useState } from "react";
import { asRefusal, type Refusal } from "../api/refusal.ts";
import { NewPassword, passwordProblem } from "../parts/new-password.tsx";
import { TextField } from "../parts/fields.tsx";
import { FormRefused } from "../parts/refused.tsx";
import { claim, toLogin } from "../session.ts";

export function Claim() {
  const [code, setCode] = useState("");
  const [user, setUser] = useState("");
  const [password, setPassword] = useState("");
  const [again, setAgain] = useState("");
  const [refusal, setRefusal] = useState<Refusal>();
  const [isBusy, setBusy] = useState(false);
  const problem = passwordProblem(password, again);
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    try {
      await claim(code, user, password);
    } catch (error) {
      setRefusal(asRefusal(error));
    } finally {
      setBusy(false);
    }
  };
  return (
    <LoginPage
      loginTitle="Claim this cluster"
      loginSubtitle="Nobody administers it yet. The code is on the screen of the node that made the cluster."
    >
      <h1 className="pf-v6-screen-reader">Sheaf</h1>
      <Form onSubmit={(event) => void submit(event)}>
        <FormRefused refusal={refusal} />
        <TextField
          id="code"
          label="Code"
          value={code}
          onChange={setCode}
          isRequired
          help="8 letters and digits; capitals and hyphens do not matter."
        />
        <TextField
          id="user"
          label="Your name"
          value={user}
          onChange={setUser}
          isRequired
          autoComplete="username"
          help="Lowercase letters, digits and hyphens."
        />
        <NewPassword password={password} again={again} onPassword={setPassword} onAgain={setAgain} />
        <ActionGroup>
          <Button
            type="submit"
            variant="primary"
            isBlock
            isDisabled={isBusy || code === "" || user === "" || problem !== ""}
          >
            Become the administrator
          </Button>
          <Button variant="link" isBlock onClick={toLogin}>
            Log in with an account
          </Button>
        </ActionGroup>
      </Form>
    </LoginPage>
  );
}
