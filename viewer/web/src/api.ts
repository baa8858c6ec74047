// What the server sends, and what an exported page carries instead.

/** The axis of a file that points up; of -y the front is +z. */
export type Up = "+y" | "-y" | "+z" | "-z";
export type Kind = "ply" | "splat";
export interface Placement {
  fovy: number; // degrees
  radius: number; // world units
  elevation: number; // degrees
}
export interface State {
  status: string;
  step: number;
  previews: number[];
  snapshot: number | null;
  has_splats: boolean;
  saved: { step: number; time: number } | null;
  asked: string[];
}
export type Summary = Record<string, unknown> & { network_share?: number; num_splats?: number };
export interface Manifest extends Partial<State> {
  kind: "run" | "file";
  name: string;
  camera: Placement;
  path?: string;
  commands?: { export?: string; view?: string; resume?: string };
  prompt?: string;
  method?: string;
  seed?: number;
  steps?: number;
  settings?: string;
  notes?: string[];
  command?: string;
  summary?: Summary;
  failure?: string;
  poster?: boolean | null;
  film?: boolean;
}
export interface Card extends Partial<Omit<Manifest, "camera">> {
  id: string;
  kind: "run" | "file";
  name: string;
}
export interface Metric extends Record<string, number | null> {
  step: number;
}
export interface Embedded {
  manifest: Manifest;
  metrics: Metric[];
  poster: string | null;
}
/** What the server knows. home: the folder of new runs; null where the page starts none. landing: the id of the run or
 * file that the page opens with; null for the gallery. */
export interface Known {
  runs: Card[];
  downloads: string[];
  reads: string[];
  home: string | null;
  landing: string | null;
}
export interface Field {
  name: string;
  main: boolean;
  help: string;
  value: string;
  kind: "text" | "whole" | "number" | "yes" | "choice" | "pair" | "list";
  options?: string[];
  choices: string[];
}
export interface Start {
  name: string;
  prompt: string;
  status: string;
  message: string;
  notes: string[];
  command: string;
}
export interface Camera {
  eye: number[];
  forward: number[];
  up: number[];
  fovy: number; // degrees
}

/** A form that was refused: a sentence for each field that is wrong. */
export class Refused extends Error {
  constructor(readonly faults: Record<string, string>) {
    super(Object.values(faults).join(" "));
  }
}

let token = "";

/** The page's own data when it is an exported file, else null. */
export function embedded(): Embedded | null {
  const text = document.getElementById("embedded")?.textContent;
  return text ? (JSON.parse(text) as Embedded) : null;
}

/** The .ply inside an exported file. */
export async function embeddedSplats(): Promise<Uint8Array> {
  const text = document.getElementById("embedded-splats")?.textContent ?? "";
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes as BlobPart]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

export async function known(): Promise<Known> {
  const answer = (await (await ask("/api/runs")).json()) as Known & { token: string };
  token = answer.token;
  return answer;
}

export async function manifest(id: string): Promise<Manifest> {
  return (await (await ask(`/api/runs/${id}`)).json()) as Manifest;
}

/** corners: of a box that the splats are cut to, or null. */
export async function splats(id: string, corners: number[] | null = null): Promise<Uint8Array> {
  return new Uint8Array(await (await ask(`/api/runs/${id}/splats${corners ? `?box=${corners}` : ""}`)).arrayBuffer());
}

/** The newest splats of a training after `after`, or null. */
export async function snapshot(id: string, after: number): Promise<{ step: number; bytes: Uint8Array } | null> {
  const answer = await ask(`/api/runs/${id}/snapshot?after=${after}`);
  if (answer.status === 204) return null;
  return { step: Number(answer.headers.get("x-step")), bytes: new Uint8Array(await answer.arrayBuffer()) };
}

export async function control(id: string, request: string): Promise<string[]> {
  return ((await post(`/api/runs/${id}/control`, { ask: request })) as { asked: string[] }).asked;
}

/** Hands a file of splats over; the id under which it is shown. */
export async function hand(file: File): Promise<string> {
  return ((await sendFile("/api/files", file)) as { id: string }).id;
}

/** The cameras in a transforms.json, which belong to the world of a run or file. */
export async function cameras(id: string, file: File): Promise<Camera[]> {
  return ((await sendFile(`/api/runs/${id}/cameras`, file)) as { cameras: Camera[] }).cameras;
}

/** A transforms.json in the world of a run or file. places: camera to world, x right, y up, z backwards. */
export async function cameraFile(id: string, list: { places: number[][][]; fovy: number; width: number; height: number }): Promise<Blob> {
  return (await send(`/api/runs/${id}/transforms`, "application/json", JSON.stringify(list))).blob();
}

export async function form(method: string, prior: string): Promise<Field[]> {
  const query = new URLSearchParams({ method, prior });
  return ((await (await ask(`/api/form?${query}`)).json()) as { fields: Field[] }).fields;
}

export async function starts(): Promise<Start[]> {
  return ((await (await ask("/api/starts")).json()) as { starts: Start[] }).starts;
}

export async function startRun(values: Record<string, string>): Promise<Start> {
  return (await post("/api/starts", { values })) as Start;
}

export async function cancel(name: string): Promise<void> {
  await post(`/api/starts/${encodeURIComponent(name)}/cancel`, {});
}

export function picture(id: string, kind: string, step = 0): string {
  return `/api/runs/${id}/picture/${kind}?step=${step}`;
}

async function post(address: string, body: unknown): Promise<unknown> {
  return (await send(address, "application/json", JSON.stringify(body))).json();
}

async function sendFile(address: string, file: File): Promise<unknown> {
  return (await send(`${address}?${new URLSearchParams({ name: file.name })}`, "application/octet-stream", file)).json();
}

function send(address: string, type: string, body: BodyInit): Promise<Response> {
  return ask(address, { method: "POST", headers: { "content-type": type, "x-splatdistill-token": token }, body });
}

async function ask(address: string, options?: RequestInit): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(address, options);
  } catch {
    throw new Error('The server does not answer. Start "splatdistill view" again and reload the page.');
  }
  if (answer.ok) return answer;
  const said = await answer.text();
  if (answer.headers.get("content-type")?.startsWith("application/json")) throw new Refused(JSON.parse(said).faults);
  throw new Error(said.trim().slice(0, 400));
}
