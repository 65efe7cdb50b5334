import { expect, test } from "vitest";
import { body, check, EMPTY, shown } from "./provider.ts";

const FORM = { ...EMPTY, issuer: "https://login.example.org" };

test("what is typed is sent, and nothing that was not", () => {
  expect(body(FORM)).toEqual({
    provider: { issuer: "https://login.example.org", clientID: "sheaf", usernameClaim: "email" },
  });
  const all = { ...FORM, clientSecret: "s", groupsClaim: "groups", certificateAuthority: " pem " };
  expect(body(all)).toEqual({
    provider: {
      issuer: "https://login.example.org",
      clientID: "sheaf",
      usernameClaim: "email",
      groupsClaim: "groups",
      certificateAuthority: "pem\n",
    },
    clientSecret: "s",
  });
  expect(shown(body(FORM).provider)).toEqual(FORM);
  expect(shown(undefined)).toEqual(EMPTY);
});

test("each entry that the server would refuse says what it takes", () => {
  expect(check(FORM)).toEqual({});
  expect(check({ ...FORM, issuer: "http://a", clientID: " ", usernameClaim: "", certificateAuthority: "x" })).toEqual({
    issuer: "As https://login.example.org, without ? and #.",
    clientID: "What the provider calls this cluster.",
    usernameClaim: "As email or sub.",
    certificateAuthority: "A certificate in PEM, or nothing.",
  });
});
