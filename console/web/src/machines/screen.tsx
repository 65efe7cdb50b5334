/**
 * The screen of a machine, by VNC.
 *
 * noVNC loads with this file. Route in: keys and pointer. Route out: a WebSocket of KubeVirt's `vnc` subresource.
 */
import { Button, Stack, StackItem, Toolbar, ToolbarContent, ToolbarItem } from "@patternfly/react-core";
import RFB from "@novnc/novnc";
import { useEffect, useRef, useState } from "react";
import * as paths from "../api/paths.ts";
import { type Connected, NotConnected, NotRunning, PROTOCOL } from "./connection.tsx";

export default function Screen({ project, name, isRunning, uid }: Connected) {
  const place = useRef<HTMLDivElement>(null);
  const screen = useRef<RFB>(undefined);
  const [isOpen, setOpen] = useState(false);
  const [round, setRound] = useState(0);
  useEffect(() => {
    if (!isRunning || !place.current) return;
    const rfb = new RFB(place.current, paths.socket(paths.act("virtualmachineinstances", project, name, "vnc")), {
      wsProtocols: [PROTOCOL],
    });
    rfb.scaleViewport = true;
    screen.current = rfb;
    const opened = () => setOpen(true);
    const closed = () => setOpen(false);
    rfb.addEventListener("connect", opened);
    rfb.addEventListener("disconnect", closed);
    return () => {
      rfb.removeEventListener("connect", opened);
      rfb.removeEventListener("disconnect", closed);
      rfb.disconnect();
      screen.current = undefined;
    };
  }, [project, name, isRunning, uid, round]);
  if (!isRunning) return <NotRunning what="Start it to see its screen." />;
  return (
    <Stack hasGutter>
      {!isOpen && (
        <StackItem>
          <NotConnected held="The screen has one viewer at a time" onAgain={() => setRound(round + 1)} />
        </StackItem>
      )}
      <StackItem>
        <Toolbar>
          <ToolbarContent>
            <ToolbarItem>
              <Button variant="secondary" isDisabled={!isOpen} onClick={() => screen.current?.focus()}>
                Type into the screen
              </Button>
            </ToolbarItem>
            <ToolbarItem>
              <Button variant="secondary" isDisabled={!isOpen} onClick={() => screen.current?.sendCtrlAltDel()}>
                Send Ctrl+Alt+Del
              </Button>
            </ToolbarItem>
            <ToolbarItem>
              <Button variant="secondary" onClick={() => void place.current?.requestFullscreen()}>
                Full screen
              </Button>
            </ToolbarItem>
          </ToolbarContent>
        </Toolbar>
      </StackItem>
      <StackItem isFilled>
        <div ref={place} className="sheaf-screen" role="group" aria-label={`Screen of ${name}`} />
      </StackItem>
    </Stack>
  );
}
