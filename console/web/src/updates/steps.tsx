/** The steps of a node's update, with what it says about the present one. */
import { ProgressStep, ProgressStepper } from "@patternfly/react-core";
import type { NodeUpdate } from "../types/crds.ts";
import { steps } from "./view.ts";

const WORDS = { success: "done", info: "now", pending: "to come", danger: "failed", warning: "tried again" } as const;

export function NodeUpdateSteps({ update }: { update: NodeUpdate }) {
  const { spec, status } = update;
  const isDone = status?.phase === "Updated";
  return (
    <>
      <p>
        {isDone ? `Release ${spec.version} runs.` : `Release ${spec.version} is wanted.`} {status?.message}
        {status?.snapshot && ` Before it, the snapshot ${status.snapshot} of the control plane was taken.`}
      </p>
      {!isDone && (
        <ProgressStepper aria-label={`Steps of the update to ${spec.version}`}>
          {steps(update).map((step, index) => (
            <ProgressStep
              key={step.title}
              id={`update-step-${index}`}
              titleId={`update-step-${index}-title`}
              variant={step.state}
              isCurrent={step.state !== "success" && step.state !== "pending"}
              aria-label={`${step.title}: ${WORDS[step.state]}`}
            >
              {step.title}
            </ProgressStep>
          ))}
        </ProgressStepper>
      )}
    </>
  );
}
