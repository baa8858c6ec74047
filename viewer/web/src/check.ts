// Looks at a dropped file before it is drawn: a file of splats of the length that it claims, or one sentence.

import { type Kind, type Up, unzip } from "./api";
import { quoted } from "./dom";

export interface Checked {
  bytes: Uint8Array;
  kind: Kind;
  up: Up;
}

const MAX_BYTES = 1 << 30;
const OTHERS = /\.(sog|ksplat|glb)$/; // what the command reads too
const SIZES: Record<string, number> = { char: 1, uchar: 1, short: 2, ushort: 2, int: 4, uint: 4, float: 4, double: 8 };

export async function check(file: File): Promise<Checked> {
  const name = file.name.toLowerCase();
  const kind = (["ply", "splat", "spz"] as const).find((suffix) => name.endsWith(`.${suffix}`));
  if (!kind) throw new Error(`${file.name}: only .ply, .splat and .spz can be dropped here${OTHERS.test(name) ? `; ${shownBy(file.name)}` : ""}.`);
  if (file.size === 0) throw new Error(`${file.name} is empty.`);
  if (file.size > MAX_BYTES) throw new Error(`${file.name} is larger than 1 GiB.`);
  const bytes = new Uint8Array(await file.arrayBuffer());
  const fault = kind === "ply" ? plyFault(bytes) : kind === "splat" ? splatFault(bytes) : await spzFault(bytes, file.name);
  if (fault) throw new Error(`${file.name} ${fault}`);
  // Of .spz those that we wrote are +y: gzip's mark for the highest effort tells them.
  const said = kind === "ply" ? saidUp(bytes) : kind === "spz" && bytes[8] === 2 ? "+y" : null;
  return { bytes, kind, up: said ?? "-y" };
}

function header(bytes: Uint8Array): string | null {
  const text = new TextDecoder("latin1").decode(bytes.subarray(0, 65536));
  const end = text.indexOf("end_header\n");
  return text.startsWith("ply\n") && end > 0 ? text.slice(0, end + 11) : null;
}

/** What our comment says; version 0.1 turned about x and named no front. */
function saidUp(bytes: Uint8Array): Up | null {
  const said = /^comment splatdistill .*\bup=([+-][yz])( front=\+z)?/m.exec(header(bytes) ?? "");
  if (!said) return null;
  return said[1] === "-y" && !said[2] ? "-y-z" : (said[1] as Up);
}

function plyFault(bytes: Uint8Array): string | null {
  const text = header(bytes);
  if (!text) return "has no header of a .ply within its first 64 KiB.";
  if (!/^format binary_little_endian 1\.0$/m.test(text)) return "is not in the format binary_little_endian 1.0.";
  let size = text.length;
  let count = 0;
  for (const line of text.split("\n")) {
    const words = line.trim().split(/\s+/);
    if (words[0] === "element") count = Number(words[2]);
    if (words[0] === "element" && !(Number.isSafeInteger(count) && count >= 0)) return "claims an odd number of splats.";
    if (words[0] === "property") {
      if (!(words[1] in SIZES)) return `has a property of the kind ${words[1]}, which splats do not have.`;
      size += count * SIZES[words[1]];
    }
  }
  if (!/^element vertex [1-9]/m.test(text)) return "holds no splats.";
  if (!/ (rot_0|packed_rotation)$/m.test(text)) return "is not a .ply of Gaussian splats.";
  if (size !== bytes.length) return `is ${bytes.length} bytes long, but needs ${size}: it is cut or damaged.`;
  const chunks = /^element chunk (\d+)$/m.exec(text); // of packed splats the bounds alone are floating point
  const end = chunks ? text.length + 72 * Number(chunks[1]) : bytes.length;
  return finite(bytes, text.length, end) ? null : "has values that are not finite.";
}

function splatFault(bytes: Uint8Array): string | null {
  if (bytes.length % 32) return `is ${bytes.length} bytes long, no whole number of splats: it is cut or damaged.`;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at < bytes.length; at += 32) {
    for (let i = 0; i < 6; i++) {
      const value = view.getFloat32(at + 4 * i, true);
      if (!Number.isFinite(value) || (i > 2 && value < 0)) return "has values that are not finite.";
    }
  }
  return null;
}

function shownBy(name: string): string {
  return `"splatdistill view ${quoted(name)}" shows it`;
}

async function spzFault(bytes: Uint8Array, name: string): Promise<string | null> {
  if (new TextDecoder("latin1").decode(bytes.subarray(0, 4)) === "NGSP")
    return `is .spz of version 4; versions 2 and 3 can be dropped here, and ${shownBy(name)}.`;
  let body: Uint8Array;
  try {
    body = await unzip(bytes);
  } catch {
    return "is not a gzip file, or it is cut.";
  }
  const view = new DataView(body.buffer);
  if (body.length < 16 || view.getUint32(0, true) !== 0x5053474e) return "has no header of .spz.";
  const [version, count, degree] = [view.getUint32(4, true), view.getUint32(8, true), body[12]];
  if (version !== 2 && version !== 3) return `is .spz of version ${version}; versions 2 and 3 are drawn.`;
  if (count === 0 || degree > 3) return "holds no splats that can be drawn.";
  const need = 16 + count * (9 + 1 + 3 + 3 + (version === 3 ? 4 : 3) + 3 * ((degree + 1) ** 2 - 1));
  return body.length === need ? null : `unpacks to ${body.length} bytes, but needs ${need}: it is cut or damaged.`;
}

/** Whether the float32 numbers between are finite. */
function finite(bytes: Uint8Array, start: number, end: number): boolean {
  const numbers = new Uint32Array(bytes.slice(start, start + 4 * Math.floor((end - start) / 4)).buffer);
  return numbers.every((bits) => (bits & 0x7f800000) !== 0x7f800000);
}
