/** Plots behind a title: nothing of them is loaded before somebody opens it. */
import { Card, CardBody, CardExpandableContent, CardHeader, CardTitle, Spinner } from "@patternfly/react-core";
import { lazy, Suspense, useState } from "react";
import type { Usage } from "./usage.tsx";

const UsagePlots = lazy(() => import("./usage.tsx"));

export function UsageCard(usage: Usage) {
  const [isOpen, setOpen] = useState(false);
  return (
    <Card isExpanded={isOpen}>
      <CardHeader
        onExpand={() => setOpen(!isOpen)}
        toggleButtonProps={{ id: "usage", "aria-label": "Usage", "aria-expanded": isOpen }}
      >
        <CardTitle component="h2">Usage</CardTitle>
      </CardHeader>
      <CardExpandableContent>
        <CardBody>
          {isOpen && (
            <Suspense fallback={<Spinner aria-label="Loading" />}>
              <UsagePlots {...usage} />
            </Suspense>
          )}
        </CardBody>
      </CardExpandableContent>
    </Card>
  );
}
