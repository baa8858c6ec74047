// One run or file: its splats, its tools, and its panel; live, or out of an exported file.

import * as api from "./api";
import { button, el, fill, save } from "./dom";
import { acts, keyTable, listen } from "./keys";
import { Live } from "./live";
import { drawing } from "./load";
import { compareTab, ExportTab, InfoTab, NAMES, type TabName, Tabs, ViewsTab } from "./panel";
import { SceneTab } from "./scene";
import type { Stage } from "./stage";
import { TrainTab } from "./train";

const ANNOUNCE_EVERY = 10_000; // ms between announcements of progress to screen readers
const PICTURE = 1024; // side of a saved picture, pixels
const OPAQUE: Record<string, string> = { white: "#ffffff", gray: "#808080", black: "#000000" };

/** What the page around has for a view. */
export interface Around {
  known: api.Known;
  carried: api.Embedded | null;
  open: (file: File) => void;
  shown: (step: number) => void;
  revived: () => void;
}

export class View {
  stage: Stage | null = null;
  other: Stage | null = null;
  live: Live | null = null;
  readonly element = el("div", { class: "view" });
  private readonly waiting = el("p", { class: "loading" }, "Loading the splats …");
  private readonly stages = el("div", { class: "stages", "data-ground": "theme" }, this.waiting);
  private readonly panel = el("aside", { "aria-label": "Panel" });
  private readonly message = el("p", { class: "message", role: "alert", hidden: true });
  private readonly announcement = el("p", { class: "visually-hidden", role: "status" });
  private readonly dialog = el("dialog", { "aria-label": "Keys" });
  private readonly list = acts({
    togglePanel: () => (this.panel.hidden = !this.panel.hidden),
    help: () => this.dialog.showModal(),
    remember: () => history.replaceState(null, "", `#${this.id ? `run=${this.id}&` : ""}view=${this.stage?.viewpoint.view.map((n) => n.toFixed(4))}`),
  });
  private readonly parts: ((about: api.Manifest) => void)[] = []; // drawn anew when the manifest changes
  private train: TrainTab | null = null;
  private scene: SceneTab | null = null;
  private cut: number[] | null = null;
  private drawn = false;
  private announcedAt = -ANNOUNCE_EVERY;
  private closed = false;

  constructor(
    readonly id: string | null,
    private about: api.Manifest,
    private readonly around: Around,
  ) {
    const buttons = this.list.filter((act) => act.label);
    const tools = el(
      "div",
      { class: "tools", role: "toolbar", "aria-label": "View" },
      ...buttons.map((act) =>
        button(act.label ?? "", () => (act.keys[0] === "h" || act.keys[0] === "?" || this.stage) && act.does(this.stage as Stage), {
          "aria-label": /^[A-Z]/.test(act.label ?? "") ? `${act.label}: ${act.text}` : act.text,
          title: `${act.text} (${act.keys[0] === " " ? "Space" : act.keys[0]})`,
        }),
      ),
    );
    this.dialog.append(el("h2", {}, "Keys"), keyTable(this.list), button("Close", () => this.dialog.close()));
    const title = el("h1", { class: "visually-hidden" }, about.prompt ?? about.name);
    this.element.append(el("main", { class: "left" }, title, this.message, this.stages, tools, this.announcement), this.panel, this.dialog);
    if (!around.carried) this.panel.append(el("a", { href: "#all", class: "back" }, "← All runs"));
  }

  async start(view: number[] | null): Promise<void> {
    this.fillPanel();
    await this.attempt(async () => {
      this.stage = await this.makeStage(this.about);
      if (!this.stage) this.fallback();
    });
    listen(this.list, () => this.stage);
    if (this.closed) return;
    this.stage?.viewpoint.place(this.about.camera);
    const { carried } = this.around;
    if (carried) await this.draw(await api.embeddedSplats(), "ply", "+y");
    else if (this.id !== null && this.about.has_splats) await this.attempt(async () => this.draw(await api.splats(this.id as string), "ply", "+y"));
    if (view) this.stage && (this.stage.viewpoint.view = view);
    await this.stage?.settled();
  }

  close(): void {
    this.closed = true;
    this.live?.close();
    this.stage?.dispose();
    this.other?.dispose();
    this.stage = this.other = null;
  }

  notify(sentence: string): void {
    this.message.hidden = sentence === "";
    this.message.textContent = sentence;
  }

  private fillPanel(): void {
    const { about, id } = this;
    const { carried, known } = this.around;
    const run = about.kind === "run";
    const names = NAMES.filter((name) => (run || (name !== "Train" && name !== "Views")) && !(carried && (name === "Views" || name === "Compare")));
    const tabs = new Tabs(names);
    this.panel.append(tabs.element);
    const part = (name: TabName, make: (root: HTMLElement) => { update(about: api.Manifest): void } | void) => {
      const root = tabs.panel(name);
      const made = root && make(root);
      if (made) this.parts.push((now) => made.update(now));
    };
    const ask = id === null ? null : (request: string) => void this.attempt(async () => this.update({ ...this.about, asked: await api.control(id, request) }));
    part("Train", (root) => (this.train = new TrainTab(root, about, ask)));
    part("Views", (root) => new ViewsTab(root, id ?? ""));
    part("Scene", (root) => void (this.scene = new SceneTab(root, this.scenery())));
    const pair = { show: (card: api.Card | null) => void this.compare(card), divide: (at: number | null) => this.divide(at) };
    part("Compare", (root) => compareTab(root, known.runs.filter((card) => card.id !== id && card.has_splats), pair));
    const outlet = {
      query: () => (this.cut ? `?box=${this.cut}` : ""),
      savePicture: () => void this.savePicture(),
      saveWhole: () => this.saveWhole(),
      askSave: ask && (() => this.train?.request("save")),
    };
    part("Export", (root) => new ExportTab(root, id, known.downloads, outlet));
    part("Info", (root) => new InfoTab(root, this.list, known.reads, carried ? null : this.around.open));
    this.update(about);
    if (carried) this.train?.draw(carried.metrics);
    if (!run || id === null) return;
    this.live = new Live(id, about.status === "done", {
      manifest: (now) => {
        this.update(now);
        this.announce(`${now.status}, step ${now.step ?? 0} of ${now.steps}`);
      },
      metrics: (all) => this.train?.draw(all),
      splats: async (bytes, kind, step) => {
        await this.draw(bytes, kind, kind === "splat" ? "-y" : "+y");
        if (step !== null) this.around.shown(step);
      },
      connection: (well) => this.notify(well ? "" : "The server does not answer. The page reconnects by itself."),
      gone: (sentence) => this.notify(sentence),
    });
  }

  private update(about: api.Manifest): void {
    this.about = about;
    for (const part of this.parts) part(about);
    if (!this.drawn && !about.has_splats && about.snapshot == null) {
      this.waiting.textContent = about.status === "running" ? "Waiting for the first splats …" : "This run has no splats.";
    }
  }

  private async draw(bytes: Uint8Array, kind: api.Kind, up: api.Up): Promise<void> {
    if (!this.stage) return;
    if (!(await this.stage.show(bytes, kind, up)) || this.closed) return;
    this.waiting.hidden = true;
    if (!this.drawn) this.stage.frame();
    this.drawn = true;
    this.stage.canvas.setAttribute("aria-label", `${this.about.prompt ?? this.about.name}: ${this.stage.count} splats`);
  }

  private async makeStage(about: api.Manifest): Promise<Stage | null> {
    const { Stage } = await drawing();
    if (this.closed) return null;
    const canvas = el("canvas", { tabindex: 0, role: "img", "aria-label": about.prompt ?? about.name });
    const box = el("div", { class: "stage" }, canvas);
    this.stages.append(box);
    try {
      const stage = new Stage(canvas);
      stage.onUpAxis = (up) => stage === this.stage && this.scene?.showUpAxis(up);
      canvas.addEventListener("webglcontextlost", (event) => {
        event.preventDefault();
        if (!this.closed && stage === this.stage) void this.revive(stage, box);
      });
      return stage;
    } catch {
      box.remove();
      return null;
    }
  }

  /** Draws the same splats on a new canvas when the graphics were taken away. */
  private async revive(old: Stage, box: HTMLElement): Promise<void> {
    const { last } = old;
    this.notify("The graphics context was lost; restoring it.");
    old.dispose();
    box.remove();
    this.stage = await this.makeStage(this.about);
    if (!this.stage) return this.fallback();
    this.stage.viewpoint.place(this.about.camera);
    this.stage.takeAfter(old);
    if (last) await this.draw(last.bytes, last.kind, last.up);
    this.notify("");
    this.around.revived();
  }

  /** Without WebGL2: the sheet of views, the film, and a sentence. */
  private fallback(): void {
    const { about, id } = this;
    const poster = this.around.carried?.poster ?? (about.poster && id !== null ? api.picture(id, "poster") : null);
    const film = about.film && id !== null ? el("video", { src: api.picture(id, "film"), controls: true, loop: true, "aria-label": "Turntable" }) : null;
    const instead = poster || film ? "the page shows images in place of the splats" : "the page cannot draw the splats";
    const note = el("p", {}, `This browser has no WebGL2, so ${instead}.`);
    fill(this.stages, el("div", { class: "fallback" }, note, poster ? el("img", { src: poster, alt: `${about.prompt ?? about.name} from eight sides` }) : null, film));
  }

  private scenery() {
    const { id } = this;
    const served = id !== null;
    return {
      stage: () => this.stage,
      ground: (name: string) => (this.stages.dataset.ground = name),
      crop: served ? (corners: number[] | null) => this.crop(id, corners) : null,
      read: served ? (file: File) => api.cameras(id, file) : null,
      write: (places: number[][][]) => void this.writeCameras(places),
    };
  }

  private async crop(id: string, corners: number[] | null): Promise<void> {
    const before = this.cut;
    this.cut = corners;
    if (!corners && !before) return;
    const view = this.stage?.viewpoint.view;
    await this.draw(await api.splats(id, corners), "ply", "+y");
    if (view && this.stage) this.stage.viewpoint.view = view;
    this.update(this.about);
  }

  private async writeCameras(places: number[][][]): Promise<void> {
    const [width, height] = [PICTURE, PICTURE];
    if (this.id === null) return;
    await this.attempt(async () => save(await api.cameraFile(this.id as string, { places, fovy: this.about.camera.fovy, width, height }), "transforms.json"));
  }

  private async compare(card: api.Card | null): Promise<void> {
    this.other?.dispose();
    this.other?.canvas.parentElement?.remove();
    this.other = null;
    if (!card || !this.stage) return;
    await this.attempt(async () => {
      const about = await api.manifest(card.id);
      const bytes = await api.splats(card.id);
      const [one, two] = [this.stage, await this.makeStage(about)];
      if (!one || !two) return;
      this.other = two;
      two.viewpoint.place(this.about.camera);
      let following = false; // moving one must not come back from the other
      const lead = (from: Stage, to: Stage) => () => {
        if (following) return;
        following = true;
        to.viewpoint.view = from.viewpoint.view;
        following = false;
      };
      one.onMove = lead(one, two);
      two.onMove = lead(two, one);
      two.viewpoint.view = one.viewpoint.view;
      await two.show(bytes, "ply", "+y");
      two.canvas.setAttribute("aria-label", `${about.prompt ?? about.name}: ${two.count} splats`);
    });
  }

  /** part: how much of the frame the other takes from the right; null stands both beside each other. */
  private divide(part: number | null): void {
    this.stages.classList.toggle("over", part !== null);
    this.stages.style.setProperty("--cut", `${100 * (1 - (part ?? 0))}%`);
  }

  private async savePicture(): Promise<void> {
    if (!this.stage) return;
    const name = this.stages.dataset.ground ?? "theme";
    const ground = OPAQUE[name] ?? getComputedStyle(document.body).backgroundColor;
    const pixels = await this.stage.capture(PICTURE, ground);
    const canvas = el("canvas", { width: PICTURE, height: PICTURE });
    canvas.getContext("2d")?.putImageData(new ImageData(pixels as Uint8ClampedArray<ArrayBuffer>, PICTURE), 0, 0);
    canvas.toBlob((blob) => blob && save(blob, `${this.about.name}.png`));
  }

  private saveWhole(): void {
    if (this.stage?.last) save(new Blob([this.stage.last.bytes as BlobPart]), `${this.about.name}.ply`);
  }

  private async attempt(work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
      this.notify("");
    } catch (error) {
      this.notify(error instanceof Error ? error.message : String(error));
    }
  }

  private announce(sentence: string): void {
    if (performance.now() - this.announcedAt < ANNOUNCE_EVERY) return;
    this.announcedAt = performance.now();
    this.announcement.textContent = sentence;
  }
}
