/**
 * The identity provider of the cluster: what is typed, what is wrong with it, what is sent (`controller/api/src/identity_provider.rs`).
 *
 * Pure. Route in: the form. Route out: problems by entry, the body of `PUT /console/sso`.
 */
import type { ClusterConfig } from "../types/crds.ts";

type Provider = NonNullable<ClusterConfig["spec"]["identityProvider"]>;

export interface NewProvider {
  issuer: string;
  clientID: string;
  /** Empty: as it is. */
  clientSecret: string;
  usernameClaim: string;
  groupsClaim: string;
  certificateAuthority: string;
}

export const EMPTY: NewProvider = {
  issuer: "",
  clientID: "sheaf",
  clientSecret: "",
  usernameClaim: "email",
  groupsClaim: "",
  certificateAuthority: "",
};

export const shown = (provider: Provider | undefined): NewProvider => ({
  ...EMPTY,
  ...(provider && {
    issuer: provider.issuer,
    clientID: provider.clientID,
    usernameClaim: provider.usernameClaim ?? "email",
    groupsClaim: provider.groupsClaim ?? "",
    certificateAuthority: provider.certificateAuthority ?? "",
  }),
});

const CLAIM = /^[A-Za-z0-9_.-]{1,64}$/;

export function check(form: NewProvider): Partial<Record<keyof NewProvider, string>> {
  const wrong: Partial<Record<keyof NewProvider, string>> = {};
  if (!/^https:\/\/[^\s?#@]+$/.test(form.issuer)) wrong.issuer = "As https://login.example.org, without ? and #.";
  if (form.clientID.trim() === "") wrong.clientID = "What the provider calls this cluster.";
  if (!CLAIM.test(form.usernameClaim)) wrong.usernameClaim = "As email or sub.";
  if (form.groupsClaim !== "" && !CLAIM.test(form.groupsClaim)) wrong.groupsClaim = "As groups, or nothing.";
  if (form.certificateAuthority.trim() !== "" && !form.certificateAuthority.includes("-----BEGIN CERTIFICATE-----"))
    wrong.certificateAuthority = "A certificate in PEM, or nothing.";
  return wrong;
}

export function body(form: NewProvider): { provider: Provider; clientSecret?: string } {
  const authority = form.certificateAuthority.trim();
  return {
    provider: {
      issuer: form.issuer,
      clientID: form.clientID.trim(),
      usernameClaim: form.usernameClaim,
      ...(form.groupsClaim === "" ? {} : { groupsClaim: form.groupsClaim }),
      ...(authority === "" ? {} : { certificateAuthority: `${authority}\n` }),
    },
    ...(form.clientSecret === "" ? {} : { clientSecret: form.clientSecret }),
  };
}
