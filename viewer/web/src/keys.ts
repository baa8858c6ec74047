// Actions on the view: each has a key, a button, or both.

import type { Up } from "./api";
import { el } from "./dom";
import type { Stage } from "./stage";

export const AXES: Up[] = ["+y", "-y", "+z", "-z"];

export interface Act {
  keys: string[];
  text: string;
  label?: string; // of its button; none where the mouse and the arrow buttons do
  does: (stage: Stage) => void;
}

export interface Page {
  togglePanel(): void;
  help(): void;
  remember(): void;
}

export function acts(page: Page): Act[] {
  const look = (key: string, text: string, azimuth: number, elevation: number): Act => ({
    keys: [key],
    text,
    does: (stage) => stage.viewpoint.look(azimuth, elevation),
  });
  return [
    { keys: ["ArrowLeft"], text: "orbit left", label: "←", does: (s) => s.viewpoint.step(-1, 0) },
    { keys: ["ArrowRight"], text: "orbit right", label: "→", does: (s) => s.viewpoint.step(1, 0) },
    { keys: ["ArrowUp"], text: "orbit up", label: "↑", does: (s) => s.viewpoint.step(0, 1) },
    { keys: ["ArrowDown"], text: "orbit down", label: "↓", does: (s) => s.viewpoint.step(0, -1) },
    { keys: ["+", "="], text: "zoom in", label: "+", does: (s) => s.viewpoint.zoom(0.9) },
    { keys: ["-"], text: "zoom out", label: "−", does: (s) => s.viewpoint.zoom(1 / 0.9) },
    { keys: ["Shift+ArrowLeft"], text: "pan left", does: (s) => s.viewpoint.fly(-1, 0, 0) },
    { keys: ["Shift+ArrowRight"], text: "pan right", does: (s) => s.viewpoint.fly(1, 0, 0) },
    { keys: ["Shift+ArrowUp"], text: "pan up", does: (s) => s.viewpoint.fly(0, 1, 0) },
    { keys: ["Shift+ArrowDown"], text: "pan down", does: (s) => s.viewpoint.fly(0, -1, 0) },
    { keys: ["w"], text: "fly forward", does: (s) => s.viewpoint.fly(0, 0, -1) },
    { keys: ["s"], text: "fly back", does: (s) => s.viewpoint.fly(0, 0, 1) },
    { keys: ["a"], text: "fly left", does: (s) => s.viewpoint.fly(-1, 0, 0) },
    { keys: ["d"], text: "fly right", does: (s) => s.viewpoint.fly(1, 0, 0) },
    { keys: ["q"], text: "fly down", does: (s) => s.viewpoint.fly(0, -1, 0) },
    { keys: ["e"], text: "fly up", does: (s) => s.viewpoint.fly(0, 1, 0) },
    { keys: ["f"], text: "frame the object", label: "Frame", does: (s) => s.frame() },
    { keys: ["r"], text: "reset the view", label: "Reset", does: (s) => s.viewpoint.reset() },
    { keys: [" "], text: "start or stop the turntable", label: "Turntable", does: (s) => s.turn(!s.turning) },
    { keys: ["u"], text: "turn upside down", label: "Flip", does: (s) => s.flip() },
    { keys: ["y"], text: "next up axis", does: (s) => (s.upAxis = AXES[(AXES.indexOf(s.upAxis) + 1) % AXES.length]) },
    { keys: ["g"], text: "show or hide the grid", label: "Grid", does: (s) => s.showGrid(!s.gridShown) },
    look("1", "from the front", 0, 0),
    look("2", "from the right", 90, 0),
    look("3", "from the back", 180, 0),
    look("4", "from the left", -90, 0),
    look("5", "from above", 0, 90),
    look("6", "from below", 0, -90),
    { keys: ["h"], text: "show or hide the panel", label: "Panel", does: () => page.togglePanel() },
    { keys: ["v"], text: "put this view into the address of the page", does: () => page.remember() },
    { keys: ["?"], text: "list the keys", label: "Keys", does: () => page.help() },
  ];
}

/** Keys act while the canvas or nothing has the focus, and no modifier but Shift is down. */
export function listen(list: Act[], stage: () => Stage | null): void {
  document.addEventListener("keydown", (event) => {
    const at = document.activeElement;
    const free = at === null || at === document.body || at instanceof HTMLCanvasElement;
    const here = stage();
    if (!here || !free || event.ctrlKey || event.altKey || event.metaKey) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const name = event.shiftKey && key.startsWith("Arrow") ? `Shift+${key}` : key;
    const act = list.find((candidate) => candidate.keys.includes(name));
    if (!act) return;
    event.preventDefault();
    act.does(here);
  });
}

export function keyTable(list: Act[]): HTMLElement {
  const names = (keys: string[]) => keys.map((key) => (key === " " ? "Space" : key)).join(" or ");
  const rows = list.map((act) => el("tr", {}, el("th", { scope: "row" }, names(act.keys)), el("td", {}, act.text)));
  return el("table", { class: "keys" }, el("tbody", {}, ...rows));
}
