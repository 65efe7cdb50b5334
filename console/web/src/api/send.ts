/**
 * Sends a file as the body of a request, with progress.
 *
 * Why here: `fetch` reports no progress of what it sends, so this is the one request that is an XMLHttpRequest. The browser reads the file
 * from the disk as it is sent, so its size does not matter. Route in: path, file. Route out: bytes so far, an end or a `Refusal`.
 */
import { sessionEnded } from "./client.ts";
import { refusalOf, unreachable } from "./refusal.ts";

export interface Sending {
  /** Ends when the server has answered. */
  done: Promise<void>;
  abort: () => void;
}

export function sendFile(path: string, file: Blob, onProgress: (sent: number) => void): Sending {
  const request = new XMLHttpRequest();
  const done = new Promise<void>((then, refuse) => {
    request.upload.onprogress = (event) => onProgress(event.loaded);
    request.onload = () => {
      if (request.status >= 200 && request.status < 300) return then();
      if (request.status === 401) sessionEnded();
      let body: unknown;
      try {
        body = JSON.parse(request.responseText);
      } catch {
        body = undefined;
      }
      refuse(refusalOf(request.status, body, request.getResponseHeader("retry-after")));
    };
    request.onerror = () => refuse(unreachable());
    request.onabort = () => refuse(unreachable());
  });
  request.open("POST", path);
  request.setRequestHeader("x-sheaf-console", "1");
  request.setRequestHeader("content-type", "application/octet-stream");
  request.send(file);
  return { done, abort: () => request.abort() };
}
