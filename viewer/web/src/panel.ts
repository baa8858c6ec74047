// The panel beside the splats: tabs, and what stands in each.

import * as api from "./api";
import { Chart, short } from "./chart";
import { button, el, facts, fill, quoted } from "./dom";
import type { Act } from "./keys";

const NAMES = ["Train", "Views", "Compare", "Export", "Info"] as const;
export type TabName = (typeof NAMES)[number];
const SIDES = ["front", "side", "back", "top"];
const FORMATS: Record<string, string> = {
  ply: "everything, as INRIA's programs have it; most programs",
  "compressed.ply": "a quarter of the size; SuperSplat, PlayCanvas, Spark",
  splat: "no view-dependent colour; nearly every viewer",
  spz: "small; Spark, three.js, Babylon, Cesium",
  sog: "smallest with harmonics; SuperSplat, PlayCanvas, Spark, Babylon",
  usda: "USD as text; Houdini, Omniverse",
  usdz: "USD in one package",
  glb: "glTF with KHR_gaussian_splatting",
  html: "this page as one file, opens from disk",
  mp4: "turntable film",
  gif: "turntable, looping",
  png: "front view on a transparent ground",
};

/** Tabs by the pattern of the WAI-ARIA practices: arrows move, Home and End jump. */
export class Tabs {
  readonly element: HTMLElement;
  private readonly panels = new Map<TabName, HTMLElement>();
  private readonly buttons = new Map<TabName, HTMLButtonElement>();

  constructor(names: readonly TabName[] = NAMES) {
    const list = el("div", { role: "tablist", "aria-label": "About this run" });
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

/** Prompt, progress, curves, and what can be asked of the training. */
export class TrainTab {
  private readonly status = el("p", { class: "status" });
  private readonly bar = el("progress", { "aria-label": "Steps done" });
  private readonly asks = el("p", { class: "row" });
  private readonly numbers = el("div");
  private readonly charts = {
    grad_norm: new Chart("residual norm", true),
    num_splats: new Chart("splats", false),
    share: new Chart("network share", false),
  };
  private readonly shares: [number, number][] = [];
  private metrics: api.Metric[] = [];
  private state: Partial<api.State> = {};

  constructor(
    root: HTMLElement,
    private readonly about: api.Manifest,
    private readonly ask: ((request: string) => void) | null,
  ) {
    const told = facts([["Method", about.method], ["Seed", about.seed]]);
    const note = el("p", { class: "note" }, "The residual norm says how hard the teacher pulls. It is no measure of quality: look at the pictures.");
    const charts = Object.values(this.charts).map((chart) => chart.element);
    root.append(el("h2", {}, about.prompt ?? about.name), told, this.status, this.bar, this.asks, this.numbers, ...charts, note);
    this.update({ ...about });
    this.draw([]);
  }

  update(state: Partial<api.State>): void {
    this.state = { ...this.state, ...state };
    const { status, summary, asked = [] } = this.state;
    const share = summary?.network_share;
    const step = this.metrics.at(-1)?.step ?? 0;
    if (typeof share === "number" && step > (this.shares.at(-1)?.[0] ?? 0)) this.shares.push([step, share]);
    this.say();
    if (!this.ask || !(status === "running" || status === "paused")) {
      fill(this.asks);
      return;
    }
    const paused = status === "paused" || asked.includes("pause");
    const one = (request: string, text: string) => button(asked.includes(request) ? `${text} (asked)` : text, () => this.ask?.(request));
    const buttons = [paused ? one("resume", "Go on") : one("pause", "Pause"), one("stop", "Stop"), one("save", "Save splats now")];
    const focused = this.asks.contains(document.activeElement) ? [...this.asks.children].indexOf(document.activeElement as Element) : -1;
    fill(this.asks, ...buttons);
    if (focused >= 0) buttons[focused]?.focus();
  }

  draw(metrics: api.Metric[]): void {
    this.metrics = metrics;
    this.charts.grad_norm.draw(metrics.map((m) => [m.step, m.grad_norm ?? Number.NaN]));
    this.charts.num_splats.draw(metrics.map((m) => [m.step, m.num_splats ?? Number.NaN]));
    this.charts.share.draw(this.shares);
    this.say();
  }

  private say(): void {
    const { status, summary } = this.state;
    const last = this.metrics.at(-1);
    const [step, steps] = [last?.step ?? Number(summary?.step ?? 0), this.about.steps ?? 0];
    this.bar.max = steps || 1;
    this.bar.value = status === "done" ? this.bar.max : step;
    const words: Record<string, string> = {
      running: `Step ${step} of ${steps}${eta(this.metrics, steps)}`,
      paused: `Paused at step ${step} of ${steps}`,
      stopped: `Stopped at step ${step} of ${steps}; "splatdistill train --resume" goes on`,
      done: `Done, ${steps} steps`,
      silent: `Nothing was heard since step ${step} of ${steps}`,
    };
    this.status.textContent = words[status ?? ""] ?? "";
    const share = summary?.network_share;
    const seconds = summary?.seconds_total;
    fill(
      this.numbers,
      facts([
        ["Splats", last?.num_splats ?? summary?.num_splats],
        ["Residual norm", last?.grad_norm && short(last.grad_norm)],
        ["Network share", typeof share === "number" && `${Math.round(100 * share)} %`],
        ["Training time", typeof seconds === "number" && `${Math.round(seconds)} s`],
      ].filter(([, value]) => value !== false) as [string, unknown][]),
    );
  }
}

function eta(metrics: api.Metric[], steps: number): string {
  const [first, last] = [metrics[Math.max(0, metrics.length - 20)], metrics.at(-1)];
  if (!first || !last || last.step <= first.step) return "";
  const seconds = (((last.seconds ?? 0) - (first.seconds ?? 0)) / (last.step - first.step)) * (steps - last.step);
  return `, about ${seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`} left`;
}

/** Pictures from four sides; a slider goes back in time. */
export class ViewsTab {
  private steps: number[] = [];
  private readonly slider = el("input", { type: "range", min: 0, max: 0, "aria-label": "Step of the pictures" });
  private readonly said = el("p", { class: "said" });
  private readonly pictures = SIDES.map((side) => el("img", { alt: `${side} view`, width: 128, height: 128, hidden: true }));

  constructor(
    root: HTMLElement,
    private readonly id: string,
  ) {
    this.slider.addEventListener("input", () => this.show());
    root.append(el("h2", {}, "Pictures during training"), el("div", { class: "grid" }, ...this.pictures), this.slider, this.said);
  }

  update(steps: number[]): void {
    const newest = Number(this.slider.value) >= this.steps.length - 1;
    this.steps = steps;
    this.slider.max = String(Math.max(0, steps.length - 1));
    if (newest) this.slider.value = this.slider.max;
    this.slider.disabled = steps.length < 2;
    this.show();
  }

  private show(): void {
    const step = this.steps[Number(this.slider.value)];
    this.said.textContent = step === undefined ? "There are no pictures yet." : `Step ${step}`;
    this.slider.setAttribute("aria-valuetext", this.said.textContent);
    this.pictures.forEach((picture, i) => {
      picture.hidden = step === undefined;
      const source = api.picture(this.id, SIDES[i], step);
      if (step !== undefined && picture.getAttribute("src") !== source) picture.setAttribute("src", source);
    });
  }
}

/** Which run stands beside this one. */
export function compareTab(root: HTMLElement, others: api.Card[], show: (card: api.Card | null) => void): void {
  root.append(el("h2", {}, "Side by side"));
  if (!others.length) {
    root.append(el("p", {}, "Open two runs, or a folder of runs, to compare: splatdistill view RUN OTHER"));
    return;
  }
  const options = others.map((card) => el("option", { value: card.id }, `${card.prompt ?? card.name} (${card.method ?? card.name})`));
  const choice = el("select", { "aria-label": "Other run" }, el("option", { value: "" }, "None"), ...options);
  choice.addEventListener("change", () => show(others.find((card) => card.id === choice.value) ?? null));
  root.append(choice, el("p", { class: "note" }, "Both are seen from the same place; moving one moves the other."));
}

/** Downloads; the server makes each when it is asked for. */
export function exportTab(root: HTMLElement, id: string | null, name: string, ready: boolean, save: (() => void)[]): void {
  root.append(el("h2", {}, "Take it with you"));
  const [picture, whole] = save;
  if (id === null) root.append(el("p", { class: "row" }, button("Save .ply", whole)));
  else {
    const links = api.downloads.map((kind) =>
      el("li", {}, el("a", { href: `/api/runs/${id}/export/${kind}`, download: true }, `.${kind}`), ` ${FORMATS[kind] ?? ""}`),
    );
    if (!ready) root.append(el("p", {}, "There are no splats yet. A running training saves them when it is asked to, under Train."));
    root.append(el("ul", { class: "links" }, ...links));
    root.append(el("p", {}, "The same on the command line:"), el("pre", { tabindex: 0 }, `splatdistill export ${quoted(name)} --format spz`));
  }
  root.append(el("p", { class: "row" }, button("Save a picture of this view", picture)));
}

/** Settings, versions, keys, and other files. */
export function infoTab(root: HTMLElement, about: api.Manifest, list: Act[], open: (file: File) => void): void {
  const file = el("input", { type: "file", accept: ".ply,.splat,.spz", id: "file" });
  file.addEventListener("change", () => file.files?.[0] && open(file.files[0]));
  const versions = Object.entries((about.summary?.versions as Record<string, string>) ?? {});
  root.append(
    el("h2", {}, about.name),
    facts([["Command", about.command], ...versions, ["Commit", about.summary?.commit], ["Peak memory, MB", about.summary?.peak_memory_mb]]),
    el("p", {}, el("label", { for: "file" }, "Look at another file (or drop it on the page)")),
    file,
    el("h3", {}, "Keys"),
    keyTable(list),
  );
  for (const note of about.notes ?? []) root.append(el("p", {}, note));
  if (about.settings) root.append(el("details", {}, el("summary", {}, "Settings"), el("pre", { tabindex: 0 }, about.settings)));
}

export function keyTable(list: Act[]): HTMLElement {
  const names = (keys: string[]) => keys.map((key) => (key === " " ? "Space" : key)).join(" or ");
  const rows = list.map((act) => el("tr", {}, el("th", { scope: "row" }, names(act.keys)), el("td", {}, act.text)));
  return el("table", { class: "keys" }, el("tbody", {}, ...rows));
}
