/** The journal of a node, its node config, and a support bundle: read when they are asked for. */
import { ActionList, ActionListItem, Button, Form, FormAlert, Spinner } from "@patternfly/react-core";
import { type FormEvent, useState } from "react";
import { get } from "../api/client.ts";
import * as paths from "../api/paths.ts";
import { asRefusal, type Refusal } from "../api/refusal.ts";
import { Code } from "../parts/code.tsx";
import { SelectField, TextField } from "../parts/fields.tsx";
import { Refused } from "../parts/refused.tsx";
import { check, EMPTY, type NewQuery, path, UNITS } from "./logs.ts";

export function NodeLogs({ node }: { node: string }) {
  const [form, setForm] = useState<NewQuery>(EMPTY);
  const [tried, setTried] = useState(false);
  const [text, setText] = useState<string>();
  const [refusal, setRefusal] = useState<Refusal>();
  const [isReading, setReading] = useState(false);
  const set = (change: Partial<NewQuery>) => setForm((before) => ({ ...before, ...change }));
  const problems = check(form);
  const at = (entry: keyof NewQuery) => (tried ? problems[entry] : undefined);
  const read = (where: string) => {
    setReading(true);
    setRefusal(undefined);
    get<string | undefined>(where)
      .then(
        (lines) => setText(lines ?? ""),
        (error: unknown) => setRefusal(asRefusal(error)),
      )
      .finally(() => setReading(false));
  };
  const show = (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (Object.keys(problems).length === 0) read(path(form, node));
  };
  return (
    <Form onSubmit={show} aria-label={`Journal of ${node}`}>
      <SelectField
        id="logs-unit"
        label="Unit"
        value={form.unit}
        onChange={(unit) => set({ unit })}
        options={[...UNITS]}
      />
      {form.unit === "other" && (
        <TextField
          id="logs-name"
          label="Name of the unit"
          value={form.name}
          onChange={(name) => set({ name: name.trim() })}
          isRequired
          error={at("name")}
        />
      )}
      <SelectField
        id="logs-boot"
        label="Since"
        value={form.boot}
        onChange={(boot) => set({ boot: boot as NewQuery["boot"] })}
        options={[
          { value: "0", label: "The node was started" },
          { value: "-1", label: "The start before, until this one" },
          { value: "all", label: "The journal begins" },
        ]}
      />
      <TextField
        id="logs-lines"
        type="number"
        label="Lines, the newest"
        value={form.lines}
        onChange={(lines) => set({ lines })}
        isRequired
        error={at("lines")}
      />
      <TextField
        id="logs-pattern"
        label="Only lines that match"
        value={form.pattern}
        onChange={(pattern) => set({ pattern })}
        help="A regular expression (PCRE2). Without capital letters it matches both."
      />
      <ActionList>
        <ActionListItem>
          <Button type="submit" variant="secondary" isDisabled={isReading}>
            Show journal
          </Button>
        </ActionListItem>
        <ActionListItem>
          <Button variant="secondary" isDisabled={isReading} onClick={() => read(paths.nodeLogs(node, "node.toml"))}>
            Show node.toml
          </Button>
        </ActionListItem>
        <ActionListItem>
          <Button
            component="a"
            download={`support-${node}.tar.gz`}
            variant="secondary"
            href={paths.nodeLogs(node, "support-bundle.tar.gz")}
          >
            Download support bundle
          </Button>
        </ActionListItem>
      </ActionList>
      {refusal && (
        <FormAlert>
          <Refused refusal={refusal} />
        </FormAlert>
      )}
      {isReading && <Spinner size="md" aria-label="Reading" />}
      {text !== undefined && !isReading && !refusal && (
        <Code id="logs-text" what="the text" text={text || "No line matches."} />
      )}
    </Form>
  );
}
