// The page: a gallery of runs, or one run or file with its panel.

import "./style.css";
import * as api from "./api";
import { el } from "./dom";
import { Gallery } from "./gallery";
import { View } from "./view";

// For the tests: what is drawn, and when.
const hook = {
  ready: false,
  revived: 0,
  shown: [] as number[],
  view: null as View | null,
  open,
  get frameId(): number {
    return this.view?.stage?.frameId ?? 0;
  },
};
Object.assign(window, { splatdistill: hook });
let gallery: Gallery | null = null;
let generation = 0; // of what is shown: what was asked for before comes too late

async function route(): Promise<void> {
  const mine = ++generation;
  const asked = new URLSearchParams(location.hash.slice(1));
  hook.ready = false;
  hook.view?.close();
  gallery?.close();
  hook.view = gallery = null;
  try {
    const carried = api.embedded();
    const known = carried ? { runs: [], downloads: [], reads: [], home: null, landing: null } : await api.known();
    const id = carried ? null : (asked.get("run") ?? (asked.has("all") ? null : known.landing));
    if (mine !== generation) return;
    if (!carried && id === null) {
      gallery = new Gallery(known, (file) => void open(file));
      document.body.replaceChildren(gallery.element);
      document.title = "Runs - splatdistill";
      await gallery.start();
    } else {
      const about = carried?.manifest ?? (await api.manifest(id as string));
      if (mine !== generation) return;
      const shown = (step: number) => void hook.shown.push(step);
      const view = new View(id, about, { known, carried, open: (file) => void open(file), shown, revived: () => hook.revived++ });
      hook.view = view;
      document.title = `${about.prompt ?? about.name} - splatdistill`;
      document.body.replaceChildren(view.element);
      await view.start(asked.get("view")?.split(",").map(Number) ?? null);
    }
  } catch (error) {
    const back = api.embedded() ? null : el("p", {}, el("a", { href: "#all" }, "All runs"));
    document.body.replaceChildren(el("main", { class: "gallery" }, el("h1", {}, "splatdistill"), el("p", { role: "alert" }, (error as Error).message), back));
  }
  if (mine === generation) hook.ready = true;
}

/** Shows a file of somebody's disk: the server reads it, as `splatdistill view` would, and then it is one of its objects. */
async function open(file: File): Promise<void> {
  const shown = hook.view ?? gallery;
  try {
    const id = await api.hand(file);
    history.pushState(null, "", `#run=${id}`);
    await route();
  } catch (error) {
    shown?.notify((error as Error).message);
  }
}

addEventListener("hashchange", () => void route());
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  const file = event.dataTransfer?.files[0];
  if (file && !api.embedded()) void open(file);
});
void route();
