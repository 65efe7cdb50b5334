/** The first thing that runs in the browser. */
import "@patternfly/react-core/dist/styles/base.css";
import "./page.css";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app.tsx";
import { start } from "./session.ts";
import { followTheme } from "./theme.ts";

followTheme();
start();
const place = document.getElementById("page");
if (place) {
  createRoot(place).render(
    <StrictMode>
      <App />
    </StrictMode>,
  );
}
