/** Fields of forms: a PatternFly group with its input, help and the refusal of the server at it. */
import {
  FormGroup,
  FormHelperText,
  FormSelect,
  FormSelectOption,
  HelperText,
  HelperTextItem,
  TextArea,
  TextInput,
} from "@patternfly/react-core";
import type { ReactNode } from "react";

interface Common {
  id: string;
  label: string;
  isRequired?: boolean;
  help?: ReactNode;
  /** What is wrong with it; takes the place of the help. */
  error?: string | undefined;
}

function Below({ id, help, error }: { id: string; help?: ReactNode; error?: string | undefined }) {
  if (!help && !error) return null;
  return (
    <FormHelperText>
      <HelperText id={`${id}-help`} isLiveRegion={error !== undefined}>
        <HelperTextItem variant={error ? "error" : "default"}>{error ?? help}</HelperTextItem>
      </HelperText>
    </FormHelperText>
  );
}

interface Text extends Common {
  value: string;
  onChange: (value: string) => void;
  type?: "text" | "password" | "number" | "url";
  autoComplete?: string;
  placeholder?: string;
  isDisabled?: boolean;
}

export function TextField({
  id,
  label,
  isRequired,
  help,
  error,
  value,
  onChange,
  type = "text",
  autoComplete = "off",
  placeholder,
  isDisabled,
}: Text) {
  return (
    <FormGroup label={label} fieldId={id} isRequired={isRequired ?? false}>
      <TextInput
        id={id}
        type={type}
        value={value}
        onChange={(_event, next) => onChange(next)}
        isRequired={isRequired ?? false}
        validated={error ? "error" : "default"}
        autoComplete={autoComplete}
        placeholder={placeholder ?? ""}
        isDisabled={isDisabled ?? false}
        {...(help || error ? { "aria-describedby": `${id}-help` } : {})}
      />
      <Below id={id} help={help} error={error} />
    </FormGroup>
  );
}

export function AreaField({ id, label, isRequired, help, error, value, onChange, placeholder }: Omit<Text, "type">) {
  return (
    <FormGroup label={label} fieldId={id} isRequired={isRequired ?? false}>
      <TextArea
        id={id}
        value={value}
        onChange={(_event, next) => onChange(next)}
        validated={error ? "error" : "default"}
        placeholder={placeholder ?? ""}
        resizeOrientation="vertical"
        {...(help || error ? { "aria-describedby": `${id}-help` } : {})}
      />
      <Below id={id} help={help} error={error} />
    </FormGroup>
  );
}

interface Choice extends Common {
  value: string;
  onChange: (value: string) => void;
  options: { value: string; label: string }[];
}

export function SelectField({ id, label, isRequired, help, error, value, onChange, options }: Choice) {
  return (
    <FormGroup label={label} fieldId={id} isRequired={isRequired ?? false}>
      <FormSelect
        id={id}
        value={value}
        onChange={(_event, next) => onChange(next)}
        validated={error ? "error" : "default"}
        {...(help || error ? { "aria-describedby": `${id}-help` } : {})}
      >
        {options.map((option) => (
          <FormSelectOption key={option.value} value={option.value} label={option.label} />
        ))}
      </FormSelect>
      <Below id={id} help={help} error={error} />
    </FormGroup>
  );
}
