import { expect, test } from "vitest";
import { asRefusal, refusalOf, unreachable } from "./refusal.ts";

const INVALID = {
  kind: "Status",
  status: "Failure",
  code: 422,
  reason: "Invalid",
  message: 'VirtualMachine "web" is invalid',
  details: {
    causes: [
      { reason: "FieldValueInvalid", message: "must be more than 0", field: "spec.template.spec.domain.memory.guest" },
      { reason: "FieldValueRequired", message: "required", field: "spec.template.spec.networks[0].name" },
    ],
  },
};

test("a refused field has the message of the server", () => {
  const refusal = refusalOf(422, INVALID);
  expect(refusal.message).toBe('VirtualMachine "web" is invalid');
  expect(refusal.at("spec.template.spec.domain.memory")).toBe("must be more than 0");
  expect(refusal.at("spec.template.spec.domain.memory.guest")).toBe("must be more than 0");
  expect(refusal.at("spec.template.spec.networks")).toBe("required");
  expect(refusal.at("spec.template.spec.domain.mem")).toBeUndefined();
  expect(refusal.remedy).toBe("Change what is named and try again.");
});

test("a login that comes too soon says when to try again", () => {
  const refusal = refusalOf(429, { reason: "TooManyRequests", message: "too many attempts; try again in 8 s" }, "8");
  expect(refusal.retryAfter).toBe(8);
  expect(refusal.remedy).toBe("Try again in 8 s.");
});

test("an answer that is no Status has its code in its message", () => {
  const refusal = refusalOf(502, "<html>");
  expect(refusal.message).toBe("the console answered with status 502");
  expect(refusal.reason).toBe("InternalError");
  expect(refusalOf(409, null).reason).toBe("Conflict");
});

test("without an answer the network is to be checked", () => {
  expect(unreachable().remedy).toBe("Check the network to the console; the page continues when the console answers.");
  expect(asRefusal(new TypeError("x")).message).toBe("x");
});
