/** Creates a machine: name, image, size, key, network. */
import { ActionGroup, Button, Card, CardBody, Form as PfForm, FormSection, PageSection } from "@patternfly/react-core";
import { type FormEvent, useMemo, useState } from "react";
import { post } from "../../api/client.ts";
import { useFetched } from "../../api/fetched.ts";
import * as paths from "../../api/paths.ts";
import { asRefusal, type Refusal } from "../../api/refusal.ts";
import { useObjects } from "../../api/watch.ts";
import { images } from "../../images/view.ts";
import { done } from "../../notices.ts";
import { AreaField, SelectField, TextField } from "../../parts/fields.tsx";
import { Heading } from "../../parts/heading.tsx";
import { projectOptions } from "../../parts/projects.ts";
import { FormRefused } from "../../parts/refused.tsx";
import { go, link, machineLink } from "../../route.ts";
import type { VirtualMachineClusterInstancetype, VirtualMachineClusterPreference } from "../../types/crds.ts";
import type { List } from "../../types/meta.ts";
import { bytes } from "../../units.ts";
import { atEntries, build, check, EMPTY, type Entry, type Form, usable } from "./build.ts";
import { sizeOptions } from "./sizes.ts";

const SOURCES = [
  { value: "image", label: "Disk image of the project" },
  { value: "iso", label: "ISO, with an empty disk to install to" },
  { value: "registry", label: "Image of a registry" },
];

export default function CreateMachine() {
  const [form, setForm] = useState<Form>(EMPTY);
  const [isChecked, setChecked] = useState(false);
  const [refusal, setRefusal] = useState<Refusal>();
  const [isBusy, setBusy] = useState(false);
  const projects = useObjects("projects");
  const volumes = useObjects("images");
  const networks = useObjects("networks");
  const sizes = useFetched<List<VirtualMachineClusterInstancetype>>(paths.size());
  const preferences = useFetched<List<VirtualMachineClusterPreference>>(paths.preference());
  const set = (entry: Entry) => (value: string) => {
    setForm((before) => ({
      ...before,
      [entry]: value,
      ...(entry === "source" || entry === "project" ? { image: "" } : {}),
    }));
    setRefusal(undefined);
  };
  const wrong: Partial<Record<Entry, string>> = {
    ...(refusal ? atEntries(refusal) : {}),
    ...(isChecked ? check(form) : {}),
  };
  const offered = useMemo(
    () =>
      images(volumes.all).filter(
        (image) => image.project === form.project && image.isReady && image.isIso === (form.source === "iso"),
      ),
    [volumes.all, form.project, form.source],
  );
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setChecked(true);
    const first = Object.keys(check(form))[0];
    if (first) {
      document.getElementById(first)?.focus();
      return;
    }
    setBusy(true);
    try {
      await post(paths.machine(form.project), build(form));
      done(`Create machine ${form.name}`);
      go(machineLink(form.project, form.name));
    } catch (error) {
      setRefusal(asRefusal(error));
      setBusy(false);
    }
  };
  return (
    <>
      <Heading title="Create machine" />
      <PageSection>
        <Card>
          <CardBody>
            <PfForm isWidthLimited onSubmit={(event) => void submit(event)} noValidate>
              <FormRefused refusal={refusal} />
              <FormSection title="1. Name" titleElement="h2">
                <TextField
                  id="name"
                  label="Name"
                  value={form.name}
                  onChange={set("name")}
                  isRequired
                  error={wrong.name}
                  help="Also the host name of the guest."
                />
                <SelectField
                  id="project"
                  label="Project"
                  value={form.project}
                  onChange={set("project")}
                  error={wrong.project}
                  options={projectOptions(projects.all, form.project)}
                />
              </FormSection>
              <FormSection title="2. Image" titleElement="h2">
                <SelectField
                  id="source"
                  label="Start from"
                  value={form.source}
                  onChange={set("source")}
                  options={SOURCES}
                />
                {form.source === "registry" ? (
                  <TextField
                    id="image"
                    label="Image"
                    value={form.image}
                    onChange={set("image")}
                    isRequired
                    error={wrong.image}
                    placeholder="quay.io/containerdisks/debian:13"
                  />
                ) : (
                  <SelectField
                    id="image"
                    label={form.source === "iso" ? "ISO" : "Image"}
                    value={form.image}
                    onChange={set("image")}
                    isRequired
                    error={wrong.image}
                    help={
                      offered.length === 0 ? (
                        <>
                          This project has none that is ready. <a href={link({ page: "images" })}>Create an image</a>.
                        </>
                      ) : (
                        "The machine gets a copy of it, on the node that has the image."
                      )
                    }
                    options={[
                      { value: "", label: "Choose" },
                      ...offered.map((image) => ({ value: image.name, label: `${image.name} (${bytes(image.size)})` })),
                    ]}
                  />
                )}
                <TextField
                  id="disk"
                  type="number"
                  label="Disk, GiB"
                  value={form.disk}
                  onChange={set("disk")}
                  isRequired
                  error={wrong.disk}
                  help="At least the size of the image. It can grow later."
                />
              </FormSection>
              <FormSection title="3. Size" titleElement="h2">
                <SelectField
                  id="size"
                  label="Processors and memory"
                  value={form.size}
                  onChange={set("size")}
                  error={wrong.size ?? sizes.refusal?.message}
                  options={sizeOptions(sizes.value?.items ?? [], form.size)}
                />
                <SelectField
                  id="preference"
                  label="Operating system"
                  value={form.preference}
                  onChange={set("preference")}
                  error={wrong.preference}
                  help="Chooses devices that it has drivers for."
                  options={[
                    { value: "", label: "Any that knows virtio" },
                    ...(preferences.value?.items ?? []).map(({ metadata }) => ({
                      value: metadata.name,
                      label: metadata.name,
                    })),
                  ]}
                />
              </FormSection>
              <FormSection title="4. Key" titleElement="h2">
                <AreaField
                  id="key"
                  label="Public SSH keys"
                  value={form.key}
                  onChange={set("key")}
                  error={wrong.key}
                  placeholder="ssh-ed25519 AAAA…"
                  help="One a line; cloud-init of the image writes them. Not needed for an ISO."
                />
              </FormSection>
              <FormSection title="5. Network" titleElement="h2">
                <SelectField
                  id="network"
                  label="Network"
                  value={form.network}
                  onChange={set("network")}
                  error={wrong.network}
                  help={
                    form.network === "masquerade"
                      ? "It reaches the outside, and is not reached from there."
                      : "Other machines of that network reach it."
                  }
                  options={[
                    { value: "masquerade", label: "Private, behind the node's address" },
                    { value: "bridge", label: "The nodes' own network (br0)" },
                    ...usable(networks.all, form.project).map(({ metadata }) => ({
                      value: `${metadata.namespace}/${metadata.name}`,
                      label: `${metadata.name} (${metadata.namespace})`,
                    })),
                  ]}
                />
              </FormSection>
              <ActionGroup>
                <Button type="submit" variant="primary" isDisabled={isBusy} isLoading={isBusy}>
                  Create and start
                </Button>
                <Button variant="link" component="a" href={link({ page: "machines" })}>
                  Cancel
                </Button>
              </ActionGroup>
            </PfForm>
          </CardBody>
        </Card>
      </PageSection>
    </>
  );
}
