/** The own second factor: set up with an authenticator app, confirmed by a code, removed with password and code. */
import {
  ActionGroup,
  Alert,
  Button,
  Card,
  CardBody,
  CardTitle,
  ClipboardCopy,
  Content,
  Form,
  Spinner,
  Stack,
  StackItem,
} from "@patternfly/react-core";
import { type FormEvent, lazy, type ReactNode, Suspense, useState } from "react";
import { post } from "../api/client.ts";
import { useFetched } from "../api/fetched.ts";
import { asRefusal, type Refusal } from "../api/refusal.ts";
import { done } from "../notices.ts";
import { TextField } from "../parts/fields.tsx";
import { FormRefused, Refused } from "../parts/refused.tsx";
import { count } from "../units.ts";

const Qr = lazy(() => import("./qr.tsx"));

interface State {
  on: boolean;
  recoveryCodes: number;
}

interface Begun {
  secret: string;
  uri: string;
}

/** A form of one or two entries that shows its refusal. */
function Asked({
  label,
  isReady,
  isDanger,
  act,
  children,
}: {
  label: string;
  isReady: boolean;
  isDanger?: boolean;
  act: () => Promise<void>;
  children: ReactNode;
}) {
  const [refusal, setRefusal] = useState<Refusal>();
  const [isBusy, setBusy] = useState(false);
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setRefusal(undefined);
    try {
      await act();
    } catch (error) {
      setRefusal(asRefusal(error));
    } finally {
      setBusy(false);
    }
  };
  return (
    <Form isWidthLimited onSubmit={(event) => void submit(event)}>
      <FormRefused refusal={refusal} />
      {children}
      <ActionGroup>
        <Button
          type="submit"
          variant={isDanger ? "danger" : "primary"}
          isLoading={isBusy}
          isDisabled={isBusy || !isReady}
        >
          {label}
        </Button>
      </ActionGroup>
    </Form>
  );
}

export function SecondFactor() {
  const { value, refusal, reload } = useFetched<State>("/console/second");
  const [password, setPassword] = useState("");
  const [code, setCode] = useState("");
  const [begun, setBegun] = useState<Begun>();
  const [codes, setCodes] = useState<string[]>();
  const clear = () => {
    setPassword("");
    setCode("");
  };
  const begin = async () => {
    setBegun(await post<Begun>("/console/second", { password }));
    clear();
  };
  const confirm = async () => {
    const made = await post<{ recoveryCodes: string[] }>("/console/second/confirm", { code });
    setCodes(made.recoveryCodes);
    setBegun(undefined);
    clear();
    reload();
  };
  const leave = async () => {
    await post("/console/second/remove", { password, code });
    done("The second factor was removed");
    setCodes(undefined);
    clear();
    reload();
  };
  const passwordField = (
    <TextField
      id="second-password"
      type="password"
      label="Your password"
      autoComplete="current-password"
      value={password}
      onChange={setPassword}
      isRequired
    />
  );
  const codeField = (help: string) => (
    <TextField
      id="second-code"
      label="Code"
      autoComplete="one-time-code"
      value={code}
      onChange={setCode}
      isRequired
      help={help}
    />
  );
  let part;
  if (refusal) part = <Refused refusal={refusal} />;
  else if (!value) part = <Spinner aria-label="Reading the second factor" />;
  else if (value.on) {
    part = (
      <Asked label="Remove the second factor" isDanger isReady={password !== "" && code !== ""} act={leave}>
        <Content component="p">
          Each login asks for a code of your app. {count(value.recoveryCodes, "recovery code is", "recovery codes are")}{" "}
          left.
        </Content>
        {passwordField}
        {codeField("Of your app, or a recovery code.")}
      </Asked>
    );
  } else if (begun) {
    part = (
      <Asked label="Confirm" isReady={code !== ""} act={confirm}>
        <Content component="p">
          Let your authenticator app read the picture, or type the secret into it. It is shown only now.
        </Content>
        <Suspense fallback={<Spinner aria-label="Loading" />}>
          <Qr text={begun.uri} />
        </Suspense>
        <ClipboardCopy isReadOnly hoverTip="Copy" clickTip="Copied" textAriaLabel="Secret">
          {begun.secret}
        </ClipboardCopy>
        <ClipboardCopy isReadOnly hoverTip="Copy" clickTip="Copied" textAriaLabel="Link for the app">
          {begun.uri}
        </ClipboardCopy>
        {codeField("Six digits that the app shows. From then on each login asks for one.")}
      </Asked>
    );
  } else {
    part = (
      <Asked label="Set up" isReady={password !== ""} act={begin}>
        <Content component="p">
          With it a login needs your password and a code of an authenticator app. API tokens need no code.
        </Content>
        {passwordField}
      </Asked>
    );
  }
  return (
    <Card>
      <CardTitle component="h2">Second factor</CardTitle>
      <CardBody>
        <Stack hasGutter>
          {codes && (
            <StackItem>
              <Alert
                variant="success"
                isInline
                component="h3"
                title="Keep the recovery codes now: they are not shown again"
              >
                <p>Each logs you in once, without the app.</p>
                <ClipboardCopy
                  isReadOnly
                  isExpanded
                  hoverTip="Copy"
                  clickTip="Copied"
                  variant="expansion"
                  textAriaLabel="Recovery codes"
                  toggleAriaLabel="Show the recovery codes"
                >
                  {codes.join("\n")}
                </ClipboardCopy>
              </Alert>
            </StackItem>
          )}
          <StackItem>{part}</StackItem>
        </Stack>
      </CardBody>
    </Card>
  );
}
