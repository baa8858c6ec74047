// The panel beside the splats: its tabs, and what stands in those that are not about the training or the scene. Each part
// is drawn anew from the manifest whenever that changes.

import * as api from "./api";
import { button, command, el, facts, fill } from "./dom";
import { type Act, keyTable } from "./keys";

export const NAMES = ["Train", "Views", "Scene", "Compare", "Export", "Info"] as const;
export type TabName = (typeof NAMES)[number];
const SIDES = ["front", "side", "back", "top"];
const FORMATS: Record<string, string> = {
  ply: "all attributes, in INRIA's layout; most programs",
  "compressed.ply": "a quarter of the size; SuperSplat, PlayCanvas, Spark",
  splat: "no view-dependent colour; nearly every viewer",
  spz: "small; Spark, three.js, Babylon, Cesium",
  sog: "smallest with harmonics; SuperSplat, PlayCanvas, Spark, Babylon",
  usda: "USD as text; Houdini, Omniverse",
  usdz: "USD in one package",
  glb: "glTF with KHR_gaussian_splatting",
  html: "this page as one file; opens from disk",
  mp4: "turntable video",
  gif: "turntable, looped",
  png: "front view, transparent background",
};
const TO_SHARE = ["html", "mp4", "gif", "png"];

/** Tabs by the pattern of the WAI-ARIA practices: arrows move, Home and End jump. */
export class Tabs {
  readonly element: HTMLElement;
  private readonly panels = new Map<TabName, HTMLElement>();
  private readonly buttons = new Map<TabName, HTMLButtonElement>();

  constructor(names: readonly TabName[]) {
    const list = el("div", { role: "tablist", "aria-label": "About this object" });
    this.element = el("div", { class: "tabs" }, list);
    for (const name of names) {
      const tab = button(name, () => this.open(name), { role: "tab", id: `tab-${name}`, "aria-controls": `panel-${name}` });
      tab.addEventListener("keydown", (event) => this.key(event, [...names], name));
      const panel = el("div", { role: "tabpanel", id: `panel-${name}`, "aria-labelledby": `tab-${name}`, tabindex: 0 });
      this.buttons.set(name, tab);
      this.panels.set(name, panel);
      list.append(tab);
      this.element.append(panel);
    }
    this.open(names[0]);
  }

  panel(name: TabName): HTMLElement | undefined {
    return this.panels.get(name);
  }

  open(name: TabName): void {
    for (const [other, panel] of this.panels) {
      panel.hidden = other !== name;
      const tab = this.buttons.get(other);
      tab?.setAttribute("aria-selected", String(other === name));
      tab?.setAttribute("tabindex", other === name ? "0" : "-1");
    }
  }

  private key(event: KeyboardEvent, names: TabName[], name: TabName): void {
    const at = names.indexOf(name);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: names.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = names[(to + names.length) % names.length];
    this.open(next);
    this.buttons.get(next)?.focus();
  }
}

/** Pictures from four sides; a slider goes back in time. */
export class ViewsTab {
  private steps: number[] = [];
  private readonly slider = el("input", { type: "range", min: 0, max: 0, "aria-label": "Step of the previews" });
  private readonly caption = el("p", { class: "hint" });
  private readonly pictures = SIDES.map((side) => el("img", { alt: `${side} view`, width: 128, height: 128, hidden: true }));

  constructor(
    root: HTMLElement,
    private readonly id: string,
  ) {
    this.slider.addEventListener("input", () => this.show());
    root.append(el("h2", {}, "Previews during training"), el("div", { class: "grid" }, ...this.pictures), this.slider, this.caption);
    this.show();
  }

  update(about: api.Manifest): void {
    const newest = Number(this.slider.value) >= this.steps.length - 1;
    this.steps = about.previews ?? [];
    this.slider.max = String(Math.max(0, this.steps.length - 1));
    if (newest) this.slider.value = this.slider.max;
    this.slider.disabled = this.steps.length < 2;
    this.show();
  }

  private show(): void {
    const step = this.steps[Number(this.slider.value)];
    this.caption.textContent = step === undefined ? "There are no previews yet. Training saves them as it goes." : `Step ${step}`;
    this.slider.setAttribute("aria-valuetext", this.caption.textContent);
    this.slider.hidden = this.steps.length < 2;
    this.pictures.forEach((picture, i) => {
      picture.hidden = step === undefined;
      const source = api.picture(this.id, SIDES[i], step);
      if (step !== undefined && picture.getAttribute("src") !== source) picture.setAttribute("src", source);
    });
  }
}

export interface Pair {
  show(card: api.Card | null): void;
  /** How much of the frame the other takes, 0..1; null stands both beside each other. */
  divide(part: number | null): void;
}

/** Which run stands beside this one, or behind a slider. */
export function compareTab(root: HTMLElement, others: api.Card[], pair: Pair): void {
  root.append(el("h2", {}, "Compare"));
  if (!others.length) {
    root.append(el("p", {}, "Compare needs a second object: drop a file on the page, or start another run."));
    return;
  }
  const named = (card: api.Card) => `${card.prompt ?? card.name}${card.method ? ` (${card.method}, seed ${card.seed})` : ""}`;
  const choice = el("select", { "aria-label": "Other run" }, el("option", { value: "" }, "None"), ...others.map((card) => el("option", { value: card.id }, named(card))));
  const slider = el("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": "Position of the divider" });
  const over = el("input", { type: "checkbox" });
  const divide = () => {
    slider.hidden = !over.checked;
    pair.divide(over.checked ? 1 - Number(slider.value) / 100 : null);
  };
  choice.addEventListener("change", () => {
    pair.show(others.find((card) => card.id === choice.value) ?? null);
    divide();
  });
  for (const part of [over, slider]) part.addEventListener("input", divide);
  slider.hidden = true;
  const note = "Both views share one camera: moving one moves the other.";
  root.append(choice, el("label", { class: "check" }, over, "Before/after slider"), slider, el("p", { class: "note" }, note));
}

export interface Outlet {
  /** What is to be added to the address of a download: the box that the splats are cut to. */
  query(): string;
  savePicture(): void;
  saveWhole(): void;
  askSave: (() => void) | null;
}

/** Downloads; the server makes each when it is asked for. */
export class ExportTab {
  private readonly body = el("div");

  constructor(
    root: HTMLElement,
    private readonly id: string | null,
    private readonly downloads: string[],
    private readonly outlet: Outlet,
  ) {
    const picture = button("Save a screenshot", outlet.savePicture);
    root.append(el("h2", {}, "Export"), this.body, el("p", { class: "row" }, picture));
  }

  update(about: api.Manifest): void {
    const { id, outlet } = this;
    if (id === null) return fill(this.body, el("p", { class: "row" }, button("Save .ply", outlet.saveWhole)));
    if (!about.has_splats) {
      const running = about.status === "running" || about.status === "paused";
      const ask = running && outlet.askSave ? el("p", { class: "row" }, button("Save splats now", outlet.askSave)) : null;
      const why = running ? "There are no splats yet. Training saves them at its end, or when you press the button." : "This run has no splats: it ended before it saved any. Resume it:";
      const resume = !running && about.commands?.resume ? command(about.commands.resume) : null;
      return fill(this.body, el("p", {}, why), ask, resume);
    }
    const link = (kind: string) =>
      el("li", {}, el("a", { href: `/api/runs/${id}/export/${kind}${outlet.query()}`, download: true }, `.${kind}`), el("span", {}, FORMATS[kind] ?? ""));
    const list = (kinds: string[]) => el("ul", { class: "links" }, ...kinds.map(link));
    const saved = about.status === "done" || about.kind === "file" || !about.saved ? "" : `These splats were saved on request after step ${about.saved.step}.`;
    fill(
      this.body,
      saved ? el("p", { class: "note" }, saved) : null,
      el("h3", {}, "To share"),
      list(this.downloads.filter((kind) => TO_SHARE.includes(kind))),
      el("h3", {}, "Splat files"),
      list(this.downloads.filter((kind) => !TO_SHARE.includes(kind))),
      ...(about.commands?.export ? [el("h3", {}, "On the command line"), command(about.commands.export)] : []),
    );
  }
}

/** Settings, versions, keys, and other files. */
export class InfoTab {
  private readonly body = el("div");

  /** open: null in a page that has no server to read files. */
  constructor(root: HTMLElement, list: Act[], reads: string[], open: ((file: File) => void) | null) {
    root.append(this.body);
    if (open) root.append(chooser(reads, open));
    root.append(el("h3", {}, "Keys"), keyTable(list));
  }

  update(about: api.Manifest): void {
    const summary = about.summary ?? {};
    const versions = Object.entries((summary.versions as Record<string, string>) ?? {});
    fill(
      this.body,
      el("h2", {}, about.name),
      facts([
        ["Folder", about.kind === "run" ? about.path : ""],
        ["File", about.kind === "file" ? about.path : ""],
        ["Command", about.command],
        ...versions,
        ["Commit", summary.commit],
        ["Peak memory, MB", summary.peak_memory_mb],
      ]),
      ...(about.notes ?? []).map((note) => el("p", {}, note)),
      about.settings ? el("details", {}, el("summary", {}, "Settings"), el("pre", { tabindex: 0 }, about.settings)) : null,
    );
  }
}

/** What asks for a file of splats. */
export function chooser(reads: string[], open: (file: File) => void): HTMLElement {
  const kinds = reads.map((kind) => `.${kind}`);
  const file = el("input", { type: "file", accept: kinds.join(","), id: "file" });
  file.addEventListener("change", () => file.files?.[0] && open(file.files[0]));
  const text = el("label", { for: "file" }, "Open a file of splats, or drop one on the page");
  return el("div", { class: "chooser" }, text, file, el("p", { class: "hint" }, kinds.join(" ")));
}
