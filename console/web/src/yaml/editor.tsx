/**
 * YAML of an object: read, edit, save. Refused fields are named with their line, in the server's words.
 *
 * The object is read once, not live: text that changes below the cursor cannot be edited. Who saves what somebody else changed
 * meanwhile is refused by the server (409) and can read it again.
 */
import { ActionGroup, Alert, Button, Form, FormGroup, List, ListItem, Spinner, TextArea } from "@patternfly/react-core";
import { useEffect, useRef, useState } from "react";
import { put } from "../api/client.ts";
import { useFetched } from "../api/fetched.ts";
import { asRefusal } from "../api/refusal.ts";
import { done } from "../notices.ts";
import { lineOf, read, show, span } from "./place.ts";

interface Wrong {
  title: string;
  remedy: string;
  places: { line: number; text: string }[];
}

export default function Editor({ path, what }: { path: string; what: string }) {
  const { value, refusal, reload } = useFetched<object>(path);
  const [text, setText] = useState("");
  const [wrong, setWrong] = useState<Wrong>();
  const [isBusy, setBusy] = useState(false);
  const area = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    if (!value) return;
    setText(show(value));
    setWrong(undefined);
  }, [value]);
  const select = (line: number) => {
    const [begin, end] = span(text, line);
    area.current?.focus();
    area.current?.setSelectionRange(begin, end);
  };
  const save = async () => {
    const found = read(text);
    if (!("object" in found)) {
      setWrong({
        title: "The text is not YAML",
        remedy: "Nothing was sent.",
        places: [{ line: found.line, text: found.message }],
      });
      return;
    }
    setBusy(true);
    try {
      // A field that does not exist is refused, not dropped.
      await put(`${path}?fieldValidation=Strict`, found.object);
      done(`Change ${what}`);
      reload();
    } catch (error) {
      const refused = asRefusal(error);
      const places = refused.causes.map((cause) => ({
        line: lineOf(text, cause.field),
        text: `${cause.field}: ${cause.message}`,
      }));
      setWrong({ title: refused.message, remedy: refused.remedy, places });
    } finally {
      setBusy(false);
    }
  };
  if (refusal) {
    return (
      <Alert variant="danger" isInline component="h2" title={refusal.message}>
        {refusal.remedy}
      </Alert>
    );
  }
  if (!value) return <Spinner aria-label="Reading" />;
  return (
    <Form className="sheaf-yaml" onSubmit={(event) => event.preventDefault()}>
      {wrong && (
        <Alert variant="danger" isInline component="h2" title={wrong.title}>
          <p>{wrong.remedy}</p>
          {wrong.places.length > 0 && (
            <List>
              {wrong.places.map((place) => (
                <ListItem key={`${place.line} ${place.text}`}>
                  <Button variant="link" isInline onClick={() => select(place.line)}>
                    Line {place.line}
                  </Button>
                  : {place.text}
                </ListItem>
              ))}
            </List>
          )}
        </Alert>
      )}
      <FormGroup label={`YAML of ${what}`} fieldId="yaml">
        <TextArea
          id="yaml"
          ref={area}
          value={text}
          onChange={(_event, next) => setText(next)}
          spellCheck={false}
          autoComplete="off"
          resizeOrientation="vertical"
        />
      </FormGroup>
      <ActionGroup>
        <Button variant="primary" onClick={() => void save()} isDisabled={isBusy} isLoading={isBusy}>
          Save
        </Button>
        <Button variant="secondary" onClick={reload} isDisabled={isBusy}>
          Read again
        </Button>
      </ActionGroup>
    </Form>
  );
}
