// All runs: a card for each, the form for a new one, and a place to drop files. It polls the server every few seconds.

import * as api from "./api";
import { Begin } from "./begin";
import { command, el, fill } from "./dom";
import { chooser } from "./panel";

const POLL_EVERY = 3000; // ms
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Gallery {
  readonly element: HTMLElement;
  private readonly list = el("ul", { class: "cards" });
  private readonly empty = el("div", { class: "empty" });
  private readonly message = el("p", { class: "message", role: "alert", hidden: true });
  private readonly cards = new Map<string, { shown: string; node: HTMLElement }>();
  private readonly begin: Begin | null;
  private timer = 0;
  private closed = false;

  constructor(
    known: api.Known,
    open: (file: File) => void,
  ) {
    this.begin = known.home === null ? null : new Begin(known.home, () => void this.refresh());
    const kinds = known.reads.map((kind) => `.${kind}`).join(" ");
    fill(
      this.empty,
      el("h2", {}, "No runs yet"),
      el("p", {}, this.begin ? "Start one with the form above, or on the command line:" : "Start one on the command line:"),
      command('splatdistill train --prompt "a red armchair"'),
      el("p", {}, `Or drop a file of splats anywhere on this page (${kinds}).`),
    );
    this.element = el(
      "main",
      { class: "gallery" },
      el("header", {}, el("p", { class: "brand" }, "splatdistill"), el("h1", {}, "Runs")),
      this.message,
      this.begin?.element,
      this.list,
      this.empty,
      el("section", { class: "drop" }, chooser(known.reads, open)),
    );
    this.show(known.runs);
  }

  async start(): Promise<void> {
    await this.begin?.load();
    await this.begin?.refresh();
    this.again();
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
  }

  notify(sentence: string): void {
    this.message.hidden = sentence === "";
    this.message.textContent = sentence;
  }

  private again(): void {
    clearTimeout(this.timer);
    if (!this.closed) this.timer = window.setTimeout(() => void this.refresh().then(() => this.again()), POLL_EVERY);
  }

  private async refresh(): Promise<void> {
    if (document.hidden || this.closed) return;
    try {
      this.show((await api.known()).runs);
      await this.begin?.refresh();
      this.notify("");
    } catch (error) {
      this.notify((error as Error).message);
    }
  }

  /** Cards that did not change stay: a film goes on, and the focus stays where it is. */
  private show(runs: api.Card[]): void {
    this.empty.hidden = runs.length > 0;
    this.list.hidden = !runs.length;
    const there = new Set(runs.map((card) => card.id));
    for (const [id, { node }] of this.cards) {
      if (there.has(id)) continue;
      node.remove();
      this.cards.delete(id);
    }
    runs.forEach((card) => {
      const now = JSON.stringify(card);
      const old = this.cards.get(card.id);
      if (old?.shown === now) return;
      const node = item(card);
      const focused = old?.node.contains(document.activeElement);
      if (old) old.node.replaceWith(node);
      else this.list.append(node);
      if (focused) node.querySelector("a")?.focus();
      this.cards.set(card.id, { shown: now, node });
    });
  }
}

function item(card: api.Card): HTMLElement {
  const step = `step ${card.step ?? 0} of ${card.steps}`;
  const status = { running: step, paused: `paused, ${step}`, silent: "no progress" }[card.status ?? ""] ?? card.status ?? "";
  const about = card.kind === "run" ? [el("span", { class: "chip" }, card.method), el("span", { class: "hint" }, `seed ${card.seed} · ${status}`)] : [el("span", { class: "hint" }, "file")];
  const link = el("a", { href: `#run=${card.id}` }, picture(card), el("strong", {}, card.prompt || card.name), el("span", { class: "facts" }, ...about));
  const film = link.querySelector("video");
  if (film) {
    for (const event of ["pointerenter", "focus"]) link.addEventListener(event, () => !still.matches && void film.play().catch(() => {}));
    for (const event of ["pointerleave", "blur"]) link.addEventListener(event, () => film.pause());
  }
  return el("li", { "data-status": card.status }, link);
}

/** The newest picture from the front, under a film that plays while somebody points at it. */
function picture(card: api.Card): HTMLElement {
  const newest = card.previews?.at(-1);
  const source = newest !== undefined ? api.picture(card.id, "front", newest) : null;
  if (card.film) {
    const film = el("video", { src: api.picture(card.id, "film"), preload: source ? "none" : "metadata", poster: source, loop: true, playsinline: true, tabindex: -1, "aria-hidden": "true" });
    film.muted = true;
    return el("span", { class: "picture" }, film);
  }
  if (source) return el("span", { class: "picture" }, el("img", { src: source, alt: "" }));
  if (card.poster) return el("span", { class: "picture whole" }, el("img", { src: api.picture(card.id, "poster"), alt: "" }));
  return el("span", { class: "picture blank" }, card.kind === "file" ? "Splats" : "No picture yet");
}
