/** A new password, typed twice. The server has the rules (`console/src/password.rs`); the length is known here too. */
import { TextField } from "./fields.tsx";

/** Characters. */
const SHORTEST = 12;

/** What is wrong, or nothing. */
export function passwordProblem(password: string, again: string): string {
  if ([...password].length < SHORTEST) return `A password has at least ${SHORTEST} characters.`;
  return password === again ? "" : "The two are not the same.";
}

interface Props {
  id?: string;
  /** Once it was sent. */
  error?: string | undefined;
  password: string;
  again: string;
  onPassword: (value: string) => void;
  onAgain: (value: string) => void;
}

export function NewPassword({ id = "new-password", error, password, again, onPassword, onAgain }: Props) {
  const differs = again !== "" && again !== password;
  return (
    <>
      <TextField
        id={id}
        error={error}
        type="password"
        label="New password"
        autoComplete="new-password"
        value={password}
        onChange={onPassword}
        isRequired
        help={`At least ${SHORTEST} characters.`}
      />
      <TextField
        id={`${id}-again`}
        type="password"
        label="New password, again"
        autoComplete="new-password"
        value={again}
        onChange={onAgain}
        isRequired
        error={differs ? "The two are not the same." : undefined}
      />
    </>
  );
}
