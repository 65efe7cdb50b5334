/**
 * A QR code: black on white in both themes, since apps read no other. Beside it the same is text, so a screen reader passes it over.
 *
 * Why here: a chunk of its own, loaded when a second factor is set up. The modules are one path: markup from a text is not trusted.
 */
import { encode } from "uqr";

export default function Qr({ text }: { text: string }) {
  const { data, size } = encode(text, { border: 4 });
  const squares = data.flatMap((row, y) => row.map((isBlack, x) => (isBlack ? `M${x} ${y}h1v1h-1z` : "")));
  return (
    <svg className="sheaf-qr" viewBox={`0 0 ${size} ${size}`} aria-hidden="true">
      <rect width={size} height={size} fill="#fff" />
      <path d={squares.join("")} fill="#000" />
    </svg>
  );
}
