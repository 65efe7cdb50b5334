/**
 * Refusals in the shape of Kubernetes' `Status`, of the API server and of the console alike, and what to do about them.
 *
 * Why here: every form and every act shows refusals the same way: reason, remedy, and the field if the server names it.
 * Pure. Route in: HTTP status and body. Route out: a `Refusal`. Source: API conventions, "Response Status Kind".
 */

/** One field that is refused. */
export interface Cause {
  /** Path of the field, `spec.template.spec.domain.memory.guest`; empty if the server names none. */
  field: string;
  message: string;
}

/** Why a request is not done. */
export class Refusal extends Error {
  /** HTTP status; 0 when no answer came. */
  readonly code: number;
  /** One CamelCase word. */
  readonly reason: string;
  readonly causes: readonly Cause[];
  /** Seconds after which another try is of use. */
  readonly retryAfter: number | undefined;

  constructor(code: number, reason: string, message: string, causes: readonly Cause[] = [], retryAfter?: number) {
    super(message);
    this.code = code;
    this.reason = reason;
    this.causes = causes;
    this.retryAfter = retryAfter;
  }

  /** What to do about it, in a sentence. */
  get remedy(): string {
    switch (this.reason) {
      case "Unreachable":
        return "Check the network to the console; the page continues when the console answers.";
      case "Unauthorized":
        return "Log in again.";
      case "Forbidden":
        return "Ask an administrator for a role that may do this.";
      case "NotFound":
        return "It may have been deleted meanwhile; go back to the list.";
      case "AlreadyExists":
        return "Choose another name.";
      case "Conflict":
        return "It was changed meanwhile; read it again and repeat the change.";
      case "Invalid":
      case "BadRequest":
        return "Change what is named and try again.";
      case "TooManyRequests":
        return this.retryAfter ? `Try again in ${this.retryAfter} s.` : "Try again later.";
      case "ServiceUnavailable":
      case "Timeout":
        return "The control plane does not answer now; try again in a few seconds.";
      default:
        return "Try again; if it stays, read the log of sheaf-console and of the API server.";
    }
  }

  /** What the server says of `field` or of a field below it. */
  at(field: string): string | undefined {
    const found = this.causes.find(
      (cause) => cause.field === field || cause.field.startsWith(`${field}.`) || cause.field.startsWith(`${field}[`),
    );
    return found?.message;
  }
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null;
const text = (value: unknown): string => (typeof value === "string" ? value : "");

/** The refusal in an answer. `body` is parsed JSON, or what else came. */
export function refusalOf(code: number, body: unknown, retryAfter?: string | null): Refusal {
  const status = isRecord(body) ? body : {};
  const details = isRecord(status["details"]) ? status["details"] : {};
  const listed: unknown[] = Array.isArray(details["causes"]) ? details["causes"] : [];
  const causes = listed
    .filter(isRecord)
    .map((cause) => ({ field: text(cause["field"]), message: text(cause["message"]) }));
  const seconds = Number(retryAfter ?? details["retryAfterSeconds"]);
  const message = text(status["message"]) || `the console answered with status ${code}`;
  return new Refusal(
    code,
    text(status["reason"]) || reasonOf(code),
    message,
    causes,
    seconds > 0 ? seconds : undefined,
  );
}

/** The refusal when no answer came. */
export function unreachable(): Refusal {
  return new Refusal(0, "Unreachable", "the console does not answer");
}

/** Anything thrown, as a refusal. */
export function asRefusal(error: unknown): Refusal {
  if (error instanceof Refusal) return error;
  return new Refusal(0, "Failed", error instanceof Error ? error.message : String(error));
}

function reasonOf(code: number): string {
  switch (code) {
    case 400:
      return "BadRequest";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "NotFound";
    case 409:
      return "Conflict";
    case 422:
      return "Invalid";
    case 429:
      return "TooManyRequests";
    case 503:
      return "ServiceUnavailable";
    default:
      return "InternalError";
  }
}
