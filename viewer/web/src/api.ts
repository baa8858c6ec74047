// What the server tells, and what an exported page carries instead.

/** The axis of a file that points up; of -y the front is +z, of -y-z it is -z. */
export type Up = "+y" | "-y" | "-y-z" | "+z" | "-z";
export type Kind = "ply" | "splat" | "spz";
export interface Placement {
  fovy: number; // degrees
  radius: number; // world units
  elevation: number; // degrees
}
export interface Card {
  id: string;
  kind: "run" | "file";
  name: string;
  prompt?: string;
  method?: string;
  seed?: number;
  steps?: number;
  step?: number | null;
  status?: string;
  poster?: boolean;
  previews?: number[];
  has_splats?: boolean;
}
export interface State {
  status: string;
  previews: number[];
  snapshot: number | null;
  has_splats: boolean;
  asked: string[];
  summary?: Summary;
}
export type Summary = Record<string, unknown> & { network_share?: number; num_splats?: number; step?: number };
export interface Manifest extends Partial<State> {
  kind: "run" | "file";
  name: string;
  camera: Placement;
  prompt?: string;
  method?: string;
  seed?: number;
  steps?: number;
  settings?: string;
  notes?: string[];
  command?: string;
  summary?: Summary;
  poster?: boolean | null;
  film?: boolean;
}
export interface Metric extends Record<string, number | null> {
  step: number;
}
export interface Embedded {
  manifest: Manifest;
  metrics: Metric[];
  poster: string | null;
}

let token = "";
export let downloads: string[] = [];

/** The page's own data when it is an exported file, else null. */
export function embedded(): Embedded | null {
  const text = document.getElementById("embedded")?.textContent;
  return text ? (JSON.parse(text) as Embedded) : null;
}

/** The .ply inside an exported file. */
export async function embeddedSplats(): Promise<Uint8Array> {
  const text = document.getElementById("embedded-splats")?.textContent ?? "";
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return unzip(bytes);
}

export async function unzip(bytes: Uint8Array): Promise<Uint8Array> {
  const stream = new Blob([bytes as BlobPart]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

export async function runs(): Promise<Card[]> {
  const answer = (await (await ask("/api/runs")).json()) as { token: string; downloads: string[]; runs: Card[] };
  token = answer.token;
  downloads = answer.downloads;
  return answer.runs;
}

export async function manifest(id: string): Promise<Manifest> {
  return (await (await ask(`/api/runs/${id}`)).json()) as Manifest;
}

export async function splats(id: string): Promise<Uint8Array> {
  return new Uint8Array(await (await ask(`/api/runs/${id}/splats`)).arrayBuffer());
}

/** The newest splats of a training after `after`, or null. */
export async function snapshot(id: string, after: number): Promise<{ step: number; bytes: Uint8Array } | null> {
  const answer = await ask(`/api/runs/${id}/snapshot?after=${after}`);
  if (answer.status === 204) return null;
  return { step: Number(answer.headers.get("x-step")), bytes: new Uint8Array(await answer.arrayBuffer()) };
}

export async function control(id: string, request: string): Promise<string[]> {
  const answer = await ask(`/api/runs/${id}/control`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-splatdistill-token": token },
    body: JSON.stringify({ ask: request }),
  });
  return ((await answer.json()) as { asked: string[] }).asked;
}

export function picture(id: string, kind: string, step = 0): string {
  return `/api/runs/${id}/picture/${kind}?step=${step}`;
}

async function ask(address: string, options?: RequestInit): Promise<Response> {
  const answer = await fetch(address, options);
  if (!answer.ok) throw new Error((await answer.text()).trim().slice(0, 300));
  return answer;
}
