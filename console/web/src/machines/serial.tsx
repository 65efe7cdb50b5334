/**
 * The serial port of a machine, in a terminal.
 *
 * xterm loads with this file. It writes its styles into `<style>` elements and `style` attributes, which the policy of the page
 * forbids; `documentFor` gives it a document whose styles go the allowed way (CSSOM). Route in: keys. Route out: a WebSocket
 * of KubeVirt's `console` subresource, bytes both ways.
 */
import "@xterm/xterm/css/xterm.css";
import { Button, Stack, StackItem } from "@patternfly/react-core";
import { FitAddon } from "@xterm/addon-fit";
import { Terminal } from "@xterm/xterm";
import { useEffect, useRef, useState } from "react";
import * as paths from "../api/paths.ts";
import { type Connected, NotConnected, NotRunning, PROTOCOL } from "./connection.tsx";
import { documentFor } from "./styles.ts";

export default function Serial({ project, name, isRunning, uid }: Connected) {
  const place = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const shown = useRef<Terminal>(undefined);
  const [isOpen, setOpen] = useState(false);
  const [round, setRound] = useState(0);
  useEffect(() => {
    if (!isRunning || !place.current) return;
    const styles = documentFor(document);
    const terminal = new Terminal({
      documentOverride: styles.document,
      fontFamily: "RedHatMono, monospace",
      fontSize: 14,
      scrollback: 5000,
      screenReaderMode: true,
      cursorBlink: true,
    });
    const fit = new FitAddon();
    terminal.loadAddon(fit);
    const target = place.current;
    // xterm 6.0 takes the page's own document for the styles of its scroll bar.
    styles.during(() => terminal.open(target));
    shown.current = terminal;
    fit.fit();
    const socket = new WebSocket(paths.socket(paths.act("virtualmachineinstances", project, name, "console")), [
      PROTOCOL,
    ]);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      setOpen(true);
      terminal.focus();
    };
    socket.onmessage = (event: MessageEvent<ArrayBuffer>) => terminal.write(new Uint8Array(event.data));
    socket.onclose = () => setOpen(false);
    const keys = new TextEncoder();
    const typed = terminal.onData((text) => socket.readyState === WebSocket.OPEN && socket.send(keys.encode(text)));
    const resized = new ResizeObserver(() => fit.fit());
    resized.observe(place.current);
    return () => {
      resized.disconnect();
      typed.dispose();
      socket.onclose = null;
      socket.close();
      terminal.dispose();
      shown.current = undefined;
      styles.release();
    };
  }, [project, name, isRunning, uid, round]);
  if (!isRunning) return <NotRunning what="Start it to use its serial port." />;
  return (
    <Stack hasGutter>
      <StackItem>
        {isOpen ? (
          <>
            <Button ref={button} variant="secondary" onClick={() => shown.current?.focus()}>
              Type into the terminal
            </Button>{" "}
            Press Enter if the guest stays silent. Ctrl+] leaves the terminal.
          </>
        ) : (
          <NotConnected held="The serial port has one user at a time" onAgain={() => setRound(round + 1)} />
        )}
      </StackItem>
      <StackItem isFilled>
        <div
          ref={place}
          className="sheaf-terminal"
          role="group"
          aria-label={`Serial port of ${name}`}
          onKeyDownCapture={(event) => {
            // A terminal takes Tab; without a way out of it, who has no mouse stays in it. virtctl leaves by the same keys.
            if (event.ctrlKey && event.key === "]") {
              event.preventDefault();
              event.stopPropagation();
              button.current?.focus();
            }
          }}
        />
      </StackItem>
    </Stack>
  );
}
