// The tab of the scene: which way is up, the ground, a box to cut to, a ruler, and a list of cameras.

import type * as api from "./api";
import { button, el, fill, labelled } from "./dom";
import { AXES } from "./keys";
import type { Stage } from "./stage";

const AXIS_NAMES = ["x", "y", "z"];
export const GROUNDS: Record<string, string> = { theme: "Same as the page", white: "White", gray: "Grey", black: "Black" };

export interface Scenery {
  stage(): Stage | null;
  ground(name: string): void;
  /** Draws and hands out what lies within lower and upper corner; null is everything. Null where no server cuts. */
  crop: ((corners: number[] | null) => Promise<void>) | null;
  /** The cameras of a file; null where no server reads it. */
  read: ((file: File) => Promise<api.Camera[]>) | null;
  /** Writes the list to a file. */
  write(places: number[][][]): void;
}

export class SceneTab {
  private readonly cameras: { name: string; go: () => void; pose: number[][] | null }[] = [];
  private readonly upAxis = el("select", {}, ...AXES.map((axis) => el("option", { value: axis }, `${axis[0] === "-" ? "−" : "+"}${axis[1]} is up`)));
  private readonly list = el("ul", { class: "cameras" });
  private readonly saveCameras = button("Save as transforms.json", () => this.write());

  constructor(
    root: HTMLElement,
    private readonly scenery: Scenery,
  ) {
    root.append(el("h2", {}, "Scene"), this.up(), this.ground(), this.ruler());
    if (scenery.crop) root.append(this.crop(scenery.crop));
    root.append(this.views());
  }

  /** For an axis that was chosen by its key. */
  showUpAxis(up: api.Up): void {
    this.upAxis.value = up;
  }

  private up(): HTMLElement {
    this.upAxis.addEventListener("change", () => {
      const stage = this.scenery.stage();
      if (stage) stage.upAxis = this.upAxis.value as api.Up;
    });
    const flip = button("Flip", () => this.scenery.stage()?.flip(), { "aria-label": "Flip upside down" });
    return el("div", { class: "pair" }, labelled("Up axis", this.upAxis), flip);
  }

  private ground(): HTMLElement {
    const choice = el("select", {}, ...Object.entries(GROUNDS).map(([name, text]) => el("option", { value: name }, text)));
    choice.addEventListener("change", () => this.scenery.ground(choice.value));
    return labelled("Background", choice);
  }

  private ruler(): HTMLElement {
    const reading = el("p", { class: "hint", role: "status" });
    const on = el("input", { type: "checkbox" });
    on.addEventListener("change", () => {
      reading.textContent = on.checked ? "Click on two splats." : "";
      const report = (length: number | null) => (reading.textContent = length === null ? "Click on the second splat." : `${length.toPrecision(3)} world units.`);
      this.scenery.stage()?.measure(on.checked ? report : null);
    });
    return el("div", {}, el("label", { class: "check" }, on, "Measure a distance"), reading);
  }

  private crop(cut: (corners: number[] | null) => Promise<void>): HTMLElement {
    const inputs = [0, 1].flatMap((side) => AXIS_NAMES.map((axis) => el("input", { type: "number", step: 0.05, "aria-label": `${side ? "maximum" : "minimum"} ${axis}` })));
    const box = el("fieldset", { hidden: true }, el("legend", {}, "Minimum and maximum x, y, z, world units"), el("div", { class: "six" }, ...inputs));
    const fault = el("p", { class: "fault", role: "alert" });
    const on = el("input", { type: "checkbox" });
    const corners = () => inputs.map((input) => input.valueAsNumber);
    const show = () => this.scenery.stage()?.outline(on.checked && corners().every(Number.isFinite) ? corners() : null);
    const apply = async () => {
      const now = corners();
      const wrong = now.some((n) => !Number.isFinite(n)) ? "Enter a number in each of the six fields." : now.slice(0, 3).some((low, i) => low >= now[i + 3]) ? "Each minimum must be below its maximum." : "";
      fault.textContent = on.checked ? wrong : "";
      show();
      if (on.checked && wrong) return;
      try {
        await cut(on.checked ? now : null);
      } catch (error) {
        fault.textContent = (error as Error).message;
      }
    };
    on.addEventListener("change", () => {
      box.hidden = !on.checked;
      const bounds = this.scenery.stage()?.bounds;
      if (on.checked && bounds) inputs.forEach((input, i) => (input.valueAsNumber = Number(bounds[i].toFixed(2)) + (i < 3 ? -0.01 : 0.01)));
      void apply();
    });
    for (const input of inputs) {
      input.addEventListener("input", show);
      input.addEventListener("change", () => void apply());
    }
    return el("div", {}, el("label", { class: "check" }, on, "Crop to a box (downloads too)"), box, fault);
  }

  private views(): HTMLElement {
    const fault = el("p", { class: "fault", role: "alert" });
    const add = button("Add this view", () => {
      const stage = this.scenery.stage();
      if (!stage) return;
      const view = stage.viewpoint.view;
      this.add(`View ${this.cameras.length + 1}`, () => (stage.viewpoint.view = view), stage.viewpoint.pose);
    });
    const parts: HTMLElement[] = [el("div", { class: "row" }, add, this.saveCameras), this.list];
    const { read } = this.scenery;
    if (read) {
      const file = el("input", { type: "file", accept: ".json" });
      file.addEventListener("change", async () => {
        try {
          fault.textContent = "";
          for (const camera of file.files?.[0] ? await read(file.files[0]) : []) {
            this.add(`Camera ${this.cameras.length + 1}`, () => this.scenery.stage()?.viewpoint.through(camera), null);
          }
        } catch (error) {
          fault.textContent = (error as Error).message;
        }
      });
      parts.push(labelled("Load a transforms.json", file), fault);
    }
    this.draw();
    return el("section", {}, el("h3", {}, "Cameras"), ...parts);
  }

  private add(name: string, go: () => void, pose: number[][] | null): void {
    this.cameras.push({ name, go, pose });
    this.draw();
  }

  private draw(): void {
    this.saveCameras.hidden = !this.cameras.length;
    this.list.hidden = !this.cameras.length;
    fill(this.list, ...this.cameras.map(({ name, go }) => el("li", {}, button(name, go))));
  }

  /** Those of a file are written as the page shows them. */
  private write(): void {
    const stage = this.scenery.stage();
    if (!stage) return;
    const before = stage.viewpoint.view;
    const places = this.cameras.map(({ go, pose }) => {
      if (pose) return pose;
      go();
      return stage.viewpoint.pose;
    });
    stage.viewpoint.view = before;
    this.scenery.write(places);
  }
}
