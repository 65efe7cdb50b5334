/**
 * The frame of every page: masthead, navigation, notices, and the page of the address.
 *
 * Pages that are not needed first are chunks of their own. Route in: the hash. Route out: a page.
 */
import {
  Alert,
  AlertActionCloseButton,
  AlertGroup,
  Banner,
  Brand,
  Bullseye,
  Divider,
  Dropdown,
  DropdownGroup,
  DropdownItem,
  DropdownList,
  Masthead,
  MastheadBrand,
  MastheadContent,
  MastheadLogo,
  MastheadMain,
  MastheadToggle,
  MenuToggle,
  Nav,
  NavItem,
  NavList,
  Page,
  PageSidebar,
  PageSidebarBody,
  PageToggleButton,
  SkipToContent,
  Spinner,
  Toolbar,
  ToolbarContent,
  ToolbarItem,
} from "@patternfly/react-core";
import { lazy, Suspense, useEffect, useRef, useState } from "react";
import { useConnected } from "./api/watch.ts";
import { Machines } from "./machines/list.tsx";
import { attempt, dismiss, useNotices } from "./notices.ts";
import { Overview } from "./overview/page.tsx";
import { Missing } from "./parts/missing.tsx";
import { link, parse, useHash, type Route } from "./route.ts";
import { logout } from "./session.ts";
import { setTheme, THEMES, useTheme } from "./theme.ts";

const MachinePage = lazy(() => import("./machines/page.tsx"));
const CreateMachine = lazy(() => import("./machines/create/page.tsx"));
const Images = lazy(() => import("./images/page.tsx"));
const Storage = lazy(() => import("./storage/page.tsx"));
const Networks = lazy(() => import("./networks/page.tsx"));
const Nodes = lazy(() => import("./nodes/list.tsx"));
const NodePage = lazy(() => import("./nodes/page.tsx"));
const PolicyPage = lazy(() => import("./networks/policy.tsx"));
const Updates = lazy(() => import("./updates/page.tsx"));
const Administration = lazy(() => import("./admin/page.tsx"));

const MAIN = "main";
const PAGES = [
  { page: "overview", title: "Overview" },
  { page: "machines", title: "Machines" },
  { page: "images", title: "Images" },
  { page: "storage", title: "Disks and pools" },
  { page: "networks", title: "Networks" },
  { page: "nodes", title: "Nodes" },
  { page: "updates", title: "Updates" },
  { page: "administration", title: "Administration" },
] as const;

/** Seconds after which a notice of success goes by itself. */
const NOTICE = 6;

function Shown({ route, user }: { route: Route; user: string }) {
  switch (route.page) {
    case "overview":
      return <Overview />;
    case "machines":
      return <Machines />;
    case "create":
      return <CreateMachine />;
    case "machine":
      return (
        <MachinePage key={`${route.project}/${route.name}`} project={route.project} name={route.name} tab={route.tab} />
      );
    case "images":
      return <Images />;
    case "storage":
    case "disks":
      return <Storage tab={route.page === "disks" ? "disks" : "pools"} />;
    case "networks":
    case "policies":
      return <Networks tab={route.page === "policies" ? "policies" : "networks"} />;
    case "policy":
      return <PolicyPage key={route.name} name={route.name} />;
    case "updates":
      return <Updates />;
    case "nodes":
      return <Nodes />;
    case "node":
      return <NodePage key={route.name} name={route.name} />;
    case "administration":
      return <Administration key="all" user={user} />;
    case "account":
      return <Administration key="own" user={user} first="own" />;
    case "missing":
      return <Missing what={`A page ${route.path}`} href={link({ page: "overview" })} back="Overview" />;
  }
}

/** Which entry of the navigation a page belongs to. */
function entry(route: Route): string {
  if (route.page === "machine" || route.page === "create") return "machines";
  if (route.page === "disks") return "storage";
  if (route.page === "account") return "administration";
  if (route.page === "policies" || route.page === "policy") return "networks";
  return route.page === "node" ? "nodes" : route.page;
}

function title(route: Route): string {
  if (route.page === "machine" || route.page === "node" || route.page === "policy") return route.name;
  if (route.page === "create") return "Create machine";
  return PAGES.find(({ page }) => page === entry(route))?.title ?? "Sheaf";
}

function UserMenu({ user }: { user: string }) {
  const [isOpen, setOpen] = useState(false);
  const theme = useTheme();
  return (
    <Dropdown
      isOpen={isOpen}
      onSelect={() => setOpen(false)}
      onOpenChange={setOpen}
      popperProps={{ position: "right" }}
      toggle={(ref) => (
        <MenuToggle ref={ref} isExpanded={isOpen} onClick={() => setOpen(!isOpen)} aria-label={`User ${user}`}>
          {user}
        </MenuToggle>
      )}
    >
      <DropdownGroup label="Theme">
        <DropdownList>
          {THEMES.map((one) => (
            <DropdownItem key={one} isSelected={one === theme} onClick={() => setTheme(one)}>
              {one === "system" ? "As the system" : one === "light" ? "Light" : "Dark"}
            </DropdownItem>
          ))}
        </DropdownList>
      </DropdownGroup>
      <Divider />
      <DropdownList>
        <DropdownItem key="password" to={link({ page: "account" })}>
          Own password and tokens
        </DropdownItem>
        <DropdownItem key="logout" onClick={() => void attempt("Log out", logout)}>
          Log out
        </DropdownItem>
      </DropdownList>
    </Dropdown>
  );
}

function Notices() {
  const notices = useNotices();
  return (
    <AlertGroup isToast isLiveRegion hasAnimations>
      {notices.map((notice) => (
        <Alert
          key={notice.id}
          variant={notice.variant}
          // Not a heading: it comes and goes above whatever the page is.
          component="p"
          title={notice.title}
          timeout={notice.variant === "success" ? NOTICE * 1000 : false}
          onTimeout={() => dismiss(notice.id)}
          actionClose={<AlertActionCloseButton title={notice.title} onClose={() => dismiss(notice.id)} />}
        >
          {notice.text}
        </Alert>
      ))}
    </AlertGroup>
  );
}

export function Frame({ user }: { user: string }) {
  const hash = useHash();
  const route = parse(hash);
  const isConnected = useConnected();
  const first = useRef(true);
  const heading = title(route);
  useEffect(() => {
    document.title = `${heading} · Sheaf`;
    // A screen reader begins a new page at its content, as it does when a page is loaded.
    if (!first.current) document.getElementById(MAIN)?.focus();
    first.current = false;
  }, [heading]);
  const masthead = (
    <Masthead>
      <MastheadMain>
        <MastheadToggle>
          <PageToggleButton isHamburgerButton aria-label="Navigation" />
        </MastheadToggle>
        <MastheadBrand>
          <MastheadLogo href="#/" component="a">
            <Brand src="/icon.svg" alt="Sheaf" heights={{ default: "36px" }} />
          </MastheadLogo>
        </MastheadBrand>
      </MastheadMain>
      <MastheadContent>
        <Toolbar isFullHeight>
          <ToolbarContent>
            <ToolbarItem align={{ default: "alignEnd" }}>
              <UserMenu user={user} />
            </ToolbarItem>
          </ToolbarContent>
        </Toolbar>
      </MastheadContent>
    </Masthead>
  );
  const sidebar = (
    <PageSidebar>
      <PageSidebarBody>
        <Nav aria-label="Pages">
          <NavList>
            {PAGES.map(({ page, title: text }) => (
              <NavItem key={page} to={link({ page })} isActive={entry(route) === page}>
                {text}
              </NavItem>
            ))}
          </NavList>
        </Nav>
      </PageSidebarBody>
    </PageSidebar>
  );
  return (
    <Page
      masthead={masthead}
      sidebar={sidebar}
      isManagedSidebar
      mainContainerId={MAIN}
      mainAriaLabel={heading}
      skipToContent={
        <SkipToContent
          href={`#${MAIN}`}
          onClick={(event) => {
            // The hash is the page's address.
            event.preventDefault();
            document.getElementById(MAIN)?.focus();
          }}
        >
          Skip to content
        </SkipToContent>
      }
    >
      {!isConnected && (
        <Banner color="yellow" screenReaderText="Warning: ">
          The console does not answer: what you see may be old. The page continues by itself.
        </Banner>
      )}
      <Suspense
        fallback={
          <Bullseye>
            <Spinner aria-label="Loading the page" />
          </Bullseye>
        }
      >
        <Shown route={route} user={user} />
      </Suspense>
      <Notices />
    </Page>
  );
}
