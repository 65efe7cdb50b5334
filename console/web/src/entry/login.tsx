/**
 * The login, by password or at the identity provider of the cluster. A wrong name and a wrong password look the same, as the server answers; who has a second factor is asked for a
 * code once the password was right.
 */
import { ActionGroup, Button, Form, LoginForm, LoginPage } from "@patternfly/react-core";
import { type FormEvent, useEffect, useState } from "react";
import { useFetched } from "../api/fetched.ts";
import { asRefusal } from "../api/refusal.ts";
import { TextField } from "../parts/fields.tsx";
import { login } from "../session.ts";
import { refused } from "./sso.ts";

const GIVEN = "With the name and password that your administrator gave you.";

export function Login({ hasEnded }: { hasEnded: boolean }) {
  const [user, setUser] = useState("");
  const [password, setPassword] = useState("");
  const [code, setCode] = useState("");
  const [asksCode, setAsksCode] = useState(false);
  const [message, setMessage] = useState("");
  const { value: sso } = useFetched<{ provider: string | null }>("/console/sso");
  useEffect(() => {
    const why = refused(location.hash);
    if (!why) return;
    setMessage(why);
    // It is no page: what follows a login is the overview.
    history.replaceState(null, "", location.pathname);
  }, []);
  const [isBusy, setBusy] = useState(false);
  const again = () => {
    setPassword("");
    setCode("");
    setAsksCode(false);
    setMessage("");
  };
  const submit = async (event: FormEvent | { preventDefault: () => void }) => {
    event.preventDefault();
    setBusy(true);
    setMessage("");
    try {
      await login(user, password, code);
    } catch (error) {
      const refusal = asRefusal(error);
      if (refusal.reason === "CodeRequired") {
        setAsksCode(true);
        return;
      }
      // After a wrong password "log in again" is no help.
      setMessage(refusal.code === 401 ? refusal.message : `${refusal.message}. ${refusal.remedy}`);
      if (!asksCode) setPassword("");
      setCode("");
    } finally {
      setBusy(false);
    }
  };
  return (
    <LoginPage
      loginTitle="Log in to Sheaf"
      loginSubtitle={asksCode ? `As ${user}: the second factor.` : hasEnded ? "The session has ended." : GIVEN}
    >
      <h1 className="pf-v6-screen-reader">Sheaf</h1>
      {asksCode ? (
        <Form onSubmit={(event) => void submit(event)}>
          <TextField
            id="login-code"
            label="Code"
            autoComplete="one-time-code"
            value={code}
            onChange={setCode}
            isRequired
            help="Six digits of your authenticator app, or a recovery code."
            error={message === "" ? undefined : message}
          />
          <ActionGroup>
            <Button type="submit" variant="primary" isBlock isDisabled={isBusy || code === ""}>
              Log in
            </Button>
            <Button variant="link" isBlock onClick={again}>
              Log in as somebody else
            </Button>
          </ActionGroup>
        </Form>
      ) : (
        <>
          {sso?.provider && (
            <ActionGroup>
              <Button component="a" href="/console/sso/begin" variant="secondary" isBlock>
                Log in at {sso.provider}
              </Button>
            </ActionGroup>
          )}
          <LoginForm
            showHelperText={message !== ""}
            helperText={message}
            usernameLabel="Name"
            usernameValue={user}
            onChangeUsername={(_event, value) => setUser(value)}
            passwordLabel="Password"
            passwordValue={password}
            onChangePassword={(_event, value) => setPassword(value)}
            isShowPasswordEnabled
            showPasswordAriaLabel="Show the password"
            hidePasswordAriaLabel="Hide the password"
            onLoginButtonClick={(event) => void submit(event)}
            loginButtonLabel="Log in"
            isLoginButtonDisabled={isBusy || user === "" || password === ""}
          />
        </>
      )}
    </LoginPage>
  );
}
