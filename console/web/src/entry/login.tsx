/** The login. A wrong name and a wrong password look the same, as the server answers. */
import { LoginForm, LoginPage } from "@patternfly/react-core";
import { type FormEvent, useState } from "react";
import { asRefusal } from "../api/refusal.ts";
import { login } from "../session.ts";

export function Login({ hasEnded }: { hasEnded: boolean }) {
  const [user, setUser] = useState("");
  const [password, setPassword] = useState("");
  const [message, setMessage] = useState("");
  const [isBusy, setBusy] = useState(false);
  const submit = async (event: FormEvent | { preventDefault: () => void }) => {
    event.preventDefault();
    setBusy(true);
    setMessage("");
    try {
      await login(user, password);
    } catch (error) {
      const refusal = asRefusal(error);
      // After a wrong password "log in again" is no help.
      setMessage(refusal.code === 401 ? refusal.message : `${refusal.message}. ${refusal.remedy}`);
      setPassword("");
    } finally {
      setBusy(false);
    }
  };
  return (
    <LoginPage
      loginTitle="Log in to Sheaf"
      loginSubtitle={
        hasEnded ? "The session has ended." : "With the name and password that your administrator gave you."
      }
    >
      <h1 className="pf-v6-screen-reader">Sheaf</h1>
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
    </LoginPage>
  );
}
