/**
 * A VNC server of one colour, for page tests. Source: RFC 6143 (RFB 3.8).
 *
 * Route in: a WebSocket. Route out: a screen of 320 by 200 that is filled once it is asked for.
 */
import type { WebSocket } from "ws";

const [WIDTH, HEIGHT] = [320, 200];
/** 32 bits a pixel, little-endian, 8 bits a colour at 16, 8 and 0 (RFC 6143, 7.4). */
const FORMAT = [32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0];
/** Red, green, blue, unused: the order that noVNC asks for by SetPixelFormat. */
const PIXEL = [0x33, 0x66, 0x99, 0];

/** Length of a client's message, if it is known yet. */
function length(bytes: Buffer): number | undefined {
  switch (bytes[0]) {
    case 0:
      return 20;
    case 2:
      return bytes.length < 4 ? undefined : 4 + 4 * bytes.readUInt16BE(2);
    case 3:
      return 10;
    case 4:
      return 8;
    case 5:
      return 6;
    case 6:
      return bytes.length < 8 ? undefined : 8 + Math.abs(bytes.readInt32BE(4));
    default:
      return bytes.length;
  }
}

function update(): Buffer {
  const head = Buffer.alloc(16);
  head.writeUInt16BE(1, 2);
  head.writeUInt16BE(WIDTH, 8);
  head.writeUInt16BE(HEIGHT, 10);
  return Buffer.concat([head, Buffer.alloc(WIDTH * HEIGHT * 4, Buffer.from(PIXEL))]);
}

export function playScreen(stream: WebSocket): void {
  let step: "version" | "security" | "init" | "messages" = "version";
  let waiting = Buffer.alloc(0);
  let isFilled = false;
  stream.send(Buffer.from("RFB 003.008\n"));
  stream.on("message", (bytes: Buffer) => {
    waiting = Buffer.concat([waiting, bytes]);
    if (step === "version" && waiting.length >= 12) {
      waiting = waiting.subarray(12);
      stream.send(Buffer.from([1, 1]));
      step = "security";
    }
    if (step === "security" && waiting.length >= 1) {
      waiting = waiting.subarray(1);
      stream.send(Buffer.from([0, 0, 0, 0]));
      step = "init";
    }
    if (step === "init" && waiting.length >= 1) {
      waiting = waiting.subarray(1);
      const name = Buffer.from("web-1");
      const init = Buffer.alloc(24);
      init.writeUInt16BE(WIDTH, 0);
      init.writeUInt16BE(HEIGHT, 2);
      Buffer.from(FORMAT).copy(init, 4);
      init.writeUInt32BE(name.length, 20);
      stream.send(Buffer.concat([init, name]));
      step = "messages";
    }
    while (step === "messages" && waiting.length > 0) {
      const size = length(waiting);
      if (size === undefined || waiting.length < size) return;
      if (waiting[0] === 3 && !isFilled) {
        isFilled = true;
        stream.send(update());
      }
      waiting = waiting.subarray(size);
    }
  });
}
