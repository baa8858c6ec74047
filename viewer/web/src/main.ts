// The page: a gallery of runs, or one run or file with its panel; live, or out of an exported file.

import "./style.css";
import * as api from "./api";
import { check } from "./check";
import { button, el, fill } from "./dom";
import { acts, listen } from "./keys";
import { Live } from "./live";
import { compareTab, exportTab, infoTab, keyTable, Tabs, TrainTab, ViewsTab, type TabName } from "./panel";
import { Stage } from "./stage";

const dark = matchMedia("(prefers-color-scheme: dark)");
const SAID_EVERY = 10_000; // ms between progress that is read out

class View {
  stage: Stage | null = null;
  other: Stage | null = null;
  live: Live | null = null;
  readonly element = el("div", { class: "view" });
  private readonly stages = el("div", { class: "stages" });
  private readonly panel = el("aside", { "aria-label": "Panel" });
  private readonly message = el("p", { class: "message", role: "alert", hidden: true });
  private readonly spoken = el("p", { class: "spoken", role: "status" });
  private readonly dialog = el("dialog", { "aria-label": "Keys" });
  private readonly list = acts({
    togglePanel: () => (this.panel.hidden = !this.panel.hidden),
    help: () => this.dialog.showModal(),
    remember: () => history.replaceState(null, "", `#${this.id ? `run=${this.id}&` : ""}view=${this.stage?.view.map((n) => n.toFixed(4))}`),
  });
  private spokeAt = -SAID_EVERY;
  private closed = false;

  constructor(
    readonly id: string | null,
    private readonly about: api.Manifest,
    private readonly cards: api.Card[],
    private readonly carried: api.Embedded | null,
  ) {
    const buttons = this.list.filter((act) => act.label);
    const tools = el(
      "div",
      { class: "tools", role: "toolbar", "aria-label": "View" },
      ...buttons.map((act) =>
        button(act.label ?? "", () => (act.keys[0] === "h" || act.keys[0] === "?" || this.stage) && act.does(this.stage as Stage), {
          "aria-label": act.text,
          title: `${act.text} (${act.keys[0] === " " ? "Space" : act.keys[0]})`,
        }),
      ),
    );
    this.dialog.append(el("h2", {}, "Keys"), keyTable(this.list), button("Close", () => this.dialog.close()));
    const back = cards.length > 1 ? el("a", { href: "#", class: "back" }, "All runs") : null;
    const title = el("h1", { class: "spoken" }, about.prompt ?? about.name);
    const left = el("main", { class: "left" }, title, this.message, this.stages, tools, this.spoken);
    this.element.append(left, this.panel, this.dialog);
    if (back) this.panel.append(back);
  }

  async start(view: number[] | null): Promise<void> {
    this.fillPanel();
    this.stage = this.makeStage(this.about);
    listen(this.list, () => this.stage);
    if (!this.stage) {
      this.fallback();
      hook.ready = true;
    }
    this.stage?.place(this.about.camera);
    if (this.carried) await this.draw(await api.embeddedSplats(), "ply", "+y");
    else if (this.id !== null && (this.about.kind === "file" || this.about.has_splats)) {
      await this.attempt(async () => this.draw(await api.splats(this.id as string), "ply", "+y"));
      if (this.about.kind === "file") this.stage?.frame();
    }
    if (view) this.stage && (this.stage.view = view);
    await this.stage?.settled();
    hook.ready = true;
  }

  close(): void {
    this.closed = true;
    this.live?.close();
    this.stage?.dispose();
    this.other?.dispose();
    this.stage = this.other = null;
  }

  async open(file: File): Promise<void> {
    await this.attempt(async () => {
      const { bytes, kind, up } = await check(file);
      this.live?.close();
      await this.draw(bytes, kind, up);
      this.stage?.frame();
      this.speak(`${file.name}, ${this.stage?.count} splats`, true);
    });
  }

  theme(): void {
    for (const stage of [this.stage, this.other]) if (stage) stage.background = dark.matches ? "#16181d" : "#ffffff";
  }

  private fillPanel(): void {
    const { about, id } = this;
    const run = about.kind === "run";
    const names: TabName[] = run ? ["Train", "Views", "Compare", "Export", "Info"] : ["Export", "Compare", "Info"];
    const tabs = new Tabs(this.carried ? names.filter((name) => name !== "Views" && name !== "Compare") : names);
    this.panel.append(tabs.element);
    const part = (name: TabName, make: (root: HTMLElement) => void) => {
      const root = tabs.panel(name);
      if (root) make(root);
    };
    let train: TrainTab | null = null;
    let views: ViewsTab | null = null;
    const ask = id === null ? null : (request: string) => void this.attempt(async () => train?.update({ asked: await api.control(id, request) }));
    part("Train", (root) => (train = new TrainTab(root, about, ask)));
    part("Views", (root) => (views = new ViewsTab(root, id ?? "")));
    part("Compare", (root) => compareTab(root, this.cards.filter((card) => card.id !== id && card.has_splats), (card) => void this.compare(card)));
    part("Export", (root) => exportTab(root, id, about.name, about.has_splats !== false, [() => void this.savePicture(), () => this.saveWhole()]));
    part("Info", (root) => infoTab(root, about, this.list, (file) => void this.open(file)));
    if (this.carried) (train as TrainTab | null)?.draw(this.carried.metrics);
    if (!run || id === null) return;
    this.live = new Live(id, about.status === "done", {
      state: (state) => {
        train?.update(state);
        views?.update(state.previews);
        this.speak(`${state.status}, step ${state.summary?.step ?? 0} of ${about.steps}`);
      },
      metrics: (all) => train?.draw(all),
      splats: (bytes, kind, step) => this.draw(bytes, kind, kind === "splat" ? "-y" : "+y").then(() => this.shown(step)),
      connection: (well) => this.tell(well ? "" : "The server does not answer. The page goes on by itself when it does."),
    });
  }

  private shown(step: number | null): void {
    if (step !== null) hook.shown.push(step);
  }

  private async draw(bytes: Uint8Array, kind: api.Kind, up: api.Up): Promise<void> {
    if (!this.stage) return;
    await this.stage.show(bytes, kind, up);
    this.describe();
  }

  private describe(): void {
    const stage = this.stage;
    if (!stage) return;
    stage.canvas.setAttribute("aria-label", `${this.about.prompt ?? this.about.name}: ${stage.count} splats`);
  }

  private makeStage(about: api.Manifest): Stage | null {
    const canvas = el("canvas", { tabindex: 0, role: "img", "aria-label": about.prompt ?? about.name });
    const box = el("div", { class: "stage" }, canvas);
    this.stages.append(box);
    try {
      const stage = new Stage(canvas);
      stage.background = dark.matches ? "#16181d" : "#ffffff";
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
    const { last, view } = old;
    this.tell("The graphics were lost; drawing again.");
    old.dispose();
    box.remove();
    this.stage = this.makeStage(this.about);
    if (!this.stage) return this.fallback();
    this.stage.place(this.about.camera);
    this.stage.view = view;
    if (last) await this.draw(last.bytes, last.kind, last.up);
    this.tell("");
    hook.revived++;
  }

  /** Without WebGL2: the sheet of views, the film, and a sentence. */
  private fallback(): void {
    const { about, id, carried } = this;
    const poster = carried?.poster ?? (about.poster && id !== null ? api.picture(id, "poster") : null);
    const film = about.film && id !== null ? el("video", { src: api.picture(id, "film"), controls: true, loop: true, "aria-label": "Turntable" }) : null;
    const said = el("p", {}, "This browser has no WebGL2, so here are pictures in place of the splats.");
    fill(this.stages, el("div", { class: "fallback" }, said, poster ? el("img", { src: poster, alt: `${about.prompt ?? about.name} from eight sides` }) : null, film));
  }

  private async compare(card: api.Card | null): Promise<void> {
    this.other?.dispose();
    this.other?.canvas.parentElement?.remove();
    this.other = null;
    if (!card || !this.stage) return;
    await this.attempt(async () => {
      const about = await api.manifest(card.id);
      const bytes = await api.splats(card.id);
      const [one, two] = [this.stage, this.makeStage(about)];
      if (!one || !two) return;
      this.other = two;
      two.place(this.about.camera);
      let following = false; // moving one must not come back from the other
      const lead = (from: Stage, to: Stage) => () => {
        if (following) return;
        following = true;
        to.view = from.view;
        following = false;
      };
      one.onMove = lead(one, two);
      two.onMove = lead(two, one);
      two.view = one.view;
      await two.show(bytes, "ply", "+y");
    });
  }

  private async savePicture(): Promise<void> {
    if (!this.stage) return;
    const size = 1024;
    const pixels = await this.stage.capture(size, dark.matches ? "#16181d" : "#ffffff");
    const canvas = el("canvas", { width: size, height: size });
    canvas.getContext("2d")?.putImageData(new ImageData(pixels as Uint8ClampedArray<ArrayBuffer>, size), 0, 0);
    canvas.toBlob((blob) => blob && save(blob, "view.png"));
  }

  private saveWhole(): void {
    if (this.stage?.last) save(new Blob([this.stage.last.bytes as BlobPart]), `${this.about.name}.ply`);
  }

  private async attempt(work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
      this.tell("");
    } catch (error) {
      this.tell(error instanceof Error ? error.message : String(error));
    }
  }

  private tell(sentence: string): void {
    this.message.hidden = sentence === "";
    this.message.textContent = sentence;
  }

  private speak(sentence: string, now = false): void {
    if (!now && performance.now() - this.spokeAt < SAID_EVERY) return;
    this.spokeAt = performance.now();
    this.spoken.textContent = sentence;
  }
}

function save(blob: Blob, name: string): void {
  const address = URL.createObjectURL(blob);
  el("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

function gallery(cards: api.Card[]): HTMLElement {
  const item = (card: api.Card) => {
    const newest = card.previews?.at(-1);
    const source = newest !== undefined ? api.picture(card.id, "front", newest) : card.poster ? api.picture(card.id, "poster") : null;
    return el(
      "li",
      {},
      el(
        "a",
        { href: `#run=${card.id}` },
        source ? el("img", { src: source, alt: "" }) : el("span", { class: "blank" }, "No picture yet"),
        el("strong", {}, card.prompt || card.name),
        el("span", {}, card.kind === "run" ? `${card.method}, seed ${card.seed}, ${card.status}` : card.name),
      ),
    );
  };
  return el("main", { class: "gallery" }, el("h1", {}, "Runs"), el("ul", {}, ...cards.map(item)));
}

// For the tests: what is drawn, and when.
const hook = {
  ready: false,
  revived: 0,
  shown: [] as number[],
  view: null as View | null,
  get frameId(): number {
    return this.view?.stage?.frameId ?? 0;
  },
};
Object.assign(window, { splatdistill: hook });

async function route(): Promise<void> {
  const asked = new URLSearchParams(location.hash.slice(1));
  hook.ready = false;
  hook.view?.close();
  hook.view = null;
  try {
    const carried = api.embedded();
    const cards = carried ? [] : await api.runs();
    const id = carried ? null : (asked.get("run") ?? (cards.length === 1 ? cards[0].id : null));
    if (!carried && id === null) {
      document.body.replaceChildren(gallery(cards));
      document.title = "Runs - splatdistill";
      hook.ready = true;
      return;
    }
    const about = carried?.manifest ?? (await api.manifest(id as string));
    document.title = `${about.prompt ?? about.name} - splatdistill`;
    const view = new View(id, about, cards, carried);
    hook.view = view;
    document.body.replaceChildren(view.element);
    await view.start(asked.get("view")?.split(",").map(Number) ?? null);
  } catch (error) {
    document.body.replaceChildren(el("main", {}, el("h1", {}, "splatdistill"), el("p", { role: "alert" }, (error as Error).message)));
  }
}

addEventListener("hashchange", () => void route());
dark.addEventListener("change", () => hook.view?.theme());
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  const file = event.dataTransfer?.files[0];
  if (file) void hook.view?.open(file);
});
void route();
