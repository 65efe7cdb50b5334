/** The identity provider of the cluster, for administrators: what it is, another one, none. */
import { ActionList, ActionListItem, Button, Spinner, Stack, StackItem } from "@patternfly/react-core";
import { useState } from "react";
import { put } from "../api/client.ts";
import { useFetched } from "../api/fetched.ts";
import * as paths from "../api/paths.ts";
import { done } from "../notices.ts";
import { Code } from "../parts/code.tsx";
import { Confirm } from "../parts/confirm.tsx";
import { Dialog } from "../parts/dialog.tsx";
import { Facts } from "../parts/facts.tsx";
import { AreaField, TextField } from "../parts/fields.tsx";
import { Refused } from "../parts/refused.tsx";
import type { ClusterConfig } from "../types/crds.ts";
import { body, check, type NewProvider, shown } from "./provider.ts";

function ProviderForm({ now, onClose, onDone }: { now: NewProvider; onClose: () => void; onDone: () => void }) {
  const [form, setForm] = useState(now);
  const set = (change: Partial<NewProvider>) => setForm((before) => ({ ...before, ...change }));
  return (
    <Dialog
      id="provider"
      title="Identity provider"
      text="People of it log in here once a user has their name there. kubectl may present its tokens."
      label="Save"
      isWide
      problems={check(form)}
      act={() => put("/console/sso", body(form))}
      onClose={onClose}
      onDone={() => {
        done("The identity provider is set");
        onDone();
      }}
    >
      {(at) => (
        <>
          <TextField
            id="provider-issuer"
            type="url"
            label="Issuer"
            value={form.issuer}
            onChange={(issuer) => set({ issuer: issuer.trim() })}
            placeholder="https://login.example.org"
            isRequired
            error={at("issuer", "spec.identityProvider.issuer")}
          />
          <TextField
            id="provider-clientID"
            label="Client ID"
            value={form.clientID}
            onChange={(clientID) => set({ clientID })}
            isRequired
            error={at("clientID", "spec.identityProvider.clientID")}
          />
          <TextField
            id="provider-clientSecret"
            type="password"
            autoComplete="new-password"
            label="Client secret"
            value={form.clientSecret}
            onChange={(clientSecret) => set({ clientSecret })}
            help={now.issuer === "" ? "If the client has one." : "Left empty, it stays as it is."}
          />
          <TextField
            id="provider-usernameClaim"
            label="Claim with the name of a person"
            value={form.usernameClaim}
            onChange={(usernameClaim) => set({ usernameClaim: usernameClaim.trim() })}
            isRequired
            help="email, sub, or another one that never becomes somebody else's."
            error={at("usernameClaim", "spec.identityProvider.usernameClaim")}
          />
          <TextField
            id="provider-groupsClaim"
            label="Claim with groups"
            value={form.groupsClaim}
            onChange={(groupsClaim) => set({ groupsClaim: groupsClaim.trim() })}
            help="For kubectl: the API server calls them oidc:GROUP."
            error={at("groupsClaim", "spec.identityProvider.groupsClaim")}
          />
          <AreaField
            id="provider-certificateAuthority"
            label="CA of its certificate, in PEM"
            value={form.certificateAuthority}
            onChange={(certificateAuthority) => set({ certificateAuthority })}
            help="If browsers do not know it."
            error={at("certificateAuthority", "spec.identityProvider.certificateAuthority")}
          />
        </>
      )}
    </Dialog>
  );
}

export function Provider() {
  const { value, refusal, reload } = useFetched<ClusterConfig>(paths.clusterConfig);
  const [open, setOpen] = useState<"form" | "remove">();
  const isNone = refusal?.code === 404;
  if (refusal && !isNone) return <Refused refusal={refusal} />;
  if (!value && !isNone) return <Spinner aria-label="Reading the identity provider" />;
  const provider = value?.spec.identityProvider;
  return (
    <Stack hasGutter>
      <StackItem>
        {provider ? (
          <Facts
            label="Identity provider"
            facts={[
              ["Issuer", provider.issuer],
              ["Client ID", provider.clientID],
              ["People are named by", provider.usernameClaim],
              ["Groups are in", provider.groupsClaim],
            ]}
          />
        ) : (
          <p>None: users log in by a password.</p>
        )}
      </StackItem>
      <StackItem>
        At the provider, a client for this cluster is sent back to this address, and to the same at each other name of
        the console:
        <Code id="provider-callback" what="the address" text={`${location.origin}/console/sso/callback`} />
      </StackItem>
      <StackItem>
        <ActionList>
          <ActionListItem>
            <Button variant="secondary" onClick={() => setOpen("form")}>
              {provider ? "Change" : "Set up"}
            </Button>
          </ActionListItem>
          {provider && (
            <ActionListItem>
              <Button variant="secondary" isDanger onClick={() => setOpen("remove")}>
                Remove
              </Button>
            </ActionListItem>
          )}
        </ActionList>
      </StackItem>
      {open === "form" && <ProviderForm now={shown(provider)} onClose={() => setOpen(undefined)} onDone={reload} />}
      {open === "remove" && (
        <Confirm
          title="Remove the identity provider"
          label="Remove"
          act={() => put("/console/sso", { provider: null })}
          onClose={() => setOpen(undefined)}
          onDone={reload}
        >
          Who has no password cannot log in any more, and its tokens do not count for kubectl.
        </Confirm>
      )}
    </Stack>
  );
}
