/** Something that an address names does not exist, or may not be seen. */
import {
  Button,
  EmptyState,
  EmptyStateActions,
  EmptyStateBody,
  EmptyStateFooter,
  PageSection,
} from "@patternfly/react-core";

export function Missing({ what, href, back }: { what: string; href: string; back: string }) {
  return (
    <PageSection>
      <EmptyState headingLevel="h1" titleText={`${what} is not here`}>
        <EmptyStateBody>It was deleted, has another name, or your roles do not show it.</EmptyStateBody>
        <EmptyStateFooter>
          <EmptyStateActions>
            <Button variant="link" component="a" href={href}>
              {back}
            </Button>
          </EmptyStateActions>
        </EmptyStateFooter>
      </EmptyState>
    </PageSection>
  );
}
