// The form that starts a run, and the queue of runs that were started here. Its fields come from the server, which makes
// them from the settings of the command line.

import * as api from "./api";
import { button, command, el, fill } from "./dom";

const LABELS: Record<string, string> = { prompt: "Prompt", method: "Method", prior: "Teacher", seed: "Seed", steps: "Steps" };
const SECTION: Record<string, string> = { "": "Training" };

type Input = HTMLInputElement | HTMLSelectElement;

export class Begin {
  readonly element: HTMLElement;
  private readonly body = el("div", { class: "fields" });
  private readonly rest = el("details", {}, el("summary", {}, "All settings"));
  private readonly queue = el("ul", { class: "queue", "aria-label": "Runs that were started here" });
  private readonly general = el("p", { class: "fault", role: "alert" });
  private readonly go = el("button", { type: "submit", class: "primary" }, "Start");
  private fields: api.Field[] = [];
  private readonly inputs = new Map<string, Input>();
  private readonly faults = new Map<string, HTMLElement>();
  private shown = "";
  private method = "";

  /** changed: called when the queue has changed. */
  constructor(
    home: string,
    private readonly changed: () => void,
  ) {
    const form = el("form", { novalidate: true, "aria-label": "New run" }, this.body, this.general, this.rest, el("p", { class: "row" }, this.go, el("span", { class: "hint" }, `Runs are saved in ${home}`)));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.submit();
    });
    this.element = el("section", { class: "begin" }, el("h2", {}, "New run"), form, this.queue);
    this.queue.hidden = true;
  }

  /** The fields for the method that was chosen, or the usual one of a teacher; edited values stay. */
  async load(prior = "embedded"): Promise<void> {
    const { method: _, ...edited } = this.edited();
    try {
      this.fields = await api.form(this.method, prior);
    } catch (error) {
      return this.refuse(error);
    }
    this.inputs.clear();
    this.faults.clear();
    fill(this.body, ...this.fields.filter((field) => field.main).map((field) => this.field(field)));
    const rest = this.fields.filter((field) => !field.main);
    const sections = [...new Set(rest.map((field) => section(field.name)))];
    fill(
      this.rest,
      el("summary", {}, "All settings"),
      ...sections.map((name) => {
        const some = rest.filter((field) => section(field.name) === name);
        return el("fieldset", {}, el("legend", {}, SECTION[name] ?? name), el("div", { class: "fields" }, ...some.map((field) => this.field(field))));
      }),
    );
    for (const [name, value] of Object.entries({ ...edited, prior })) {
      const input = this.inputs.get(name);
      if (input) set(input, value);
    }
    const [chosen, taught] = [this.inputs.get("method"), this.inputs.get("prior")];
    chosen?.addEventListener("change", () => {
      this.method = chosen.value;
      void this.load(taught?.value);
    });
    taught?.addEventListener("change", () => void this.load(taught.value));
  }

  /** Shows the queue as it is now. */
  async refresh(): Promise<void> {
    const starts = await api.starts();
    const now = JSON.stringify(starts);
    if (now === this.shown) return;
    this.shown = now;
    this.queue.hidden = !starts.length;
    fill(this.queue, ...starts.toReversed().map((start) => this.entry(start)));
    this.changed();
  }

  private entry(start: api.Start): HTMLElement {
    const words: Record<string, string> = { running: "training" };
    const back = start.status === "waiting" ? button("Cancel", () => void this.cancel(start.name), { "aria-label": `Cancel: ${start.prompt}` }) : null;
    const fault = start.status === "failed" ? el("p", { class: "fault" }, start.message) : null;
    const notes = start.status === "running" || start.status === "failed" ? start.notes.map((note) => el("p", { class: "hint" }, note)) : [];
    const shown = el("details", {}, el("summary", {}, "Command"), command(start.command));
    return el("li", { "data-status": start.status }, el("strong", {}, start.prompt), el("span", { class: "chip" }, words[start.status] ?? start.status), back, fault, ...notes, shown);
  }

  private field(field: api.Field): HTMLElement {
    const id = `set-${field.name}`;
    const input = this.input(field, id);
    const fault = el("span", { class: "fault", id: `${id}-fault`, role: "alert" });
    const help = el("span", { class: "hint", id: `${id}-help` }, field.main ? "" : field.help);
    input.title = field.help;
    this.inputs.set(field.name, input);
    this.faults.set(field.name, fault);
    const name = LABELS[field.name] ?? field.name.split(".").at(-1)?.replaceAll("_", " ") ?? field.name;
    const list = field.choices.length ? el("datalist", { id: `${id}-choices` }, ...field.choices.map((value) => el("option", { value }))) : null;
    return el("div", { class: `field ${field.name === "prompt" ? "wide" : ""}` }, el("label", { for: id }, name), input, list, fault, help);
  }

  private input(field: api.Field, id: string): Input {
    const described = { id, name: field.name, "aria-describedby": `${id}-fault ${id}-help` };
    if (field.kind === "choice") return el("select", described, ...(field.options ?? []).map((value) => el("option", { value, selected: value === field.value }, value)));
    if (field.kind === "yes") return el("input", { type: "checkbox", checked: field.value === "true", ...described });
    const numeric = field.kind === "whole" ? "numeric" : field.kind === "number" ? "decimal" : null;
    const hint = field.name === "prompt" ? "a red armchair" : null;
    return el("input", { type: "text", value: field.value, inputmode: numeric, placeholder: hint, autocomplete: "off", list: field.choices.length ? `${id}-choices` : null, ...described });
  }

  /** What differs from the values that the fields came with. */
  private edited(): Record<string, string> {
    const found: Record<string, string> = {};
    for (const { name, value } of this.fields) {
      const input = this.inputs.get(name);
      if (input && read(input) !== value) found[name] = read(input);
    }
    return found;
  }

  private async submit(): Promise<void> {
    this.refuse(null);
    this.go.disabled = true;
    const always = Object.fromEntries(["prompt", "method", "prior"].map((name) => [name, read(this.inputs.get(name))]));
    try {
      await api.startRun({ ...this.edited(), ...always });
      await this.refresh();
    } catch (error) {
      this.refuse(error);
    }
    this.go.disabled = false;
  }

  /** Writes under each field what is wrong with it; null clears all. */
  private refuse(error: unknown): void {
    for (const [name, fault] of this.faults) {
      fault.textContent = "";
      this.inputs.get(name)?.removeAttribute("aria-invalid");
    }
    this.general.textContent = "";
    if (error === null) return;
    const faults = error instanceof api.Refused ? error.faults : { "": (error as Error).message };
    let first: Input | null = null;
    for (const [name, sentence] of Object.entries(faults)) {
      const [fault, input] = [this.faults.get(name), this.inputs.get(name)];
      (fault ?? this.general).textContent = sentence;
      input?.setAttribute("aria-invalid", "true");
      if (input && !this.body.contains(input)) this.rest.open = true;
      first ??= input ?? null;
    }
    first?.focus();
  }

  private async cancel(name: string): Promise<void> {
    try {
      await api.cancel(name);
      await this.refresh();
    } catch (error) {
      this.refuse(error);
    }
  }
}

function section(name: string): string {
  return name.includes(".") ? name.split(".")[0] : "";
}

function read(input: Input | undefined): string {
  if (!input) return "";
  return input instanceof HTMLInputElement && input.type === "checkbox" ? String(input.checked) : input.value;
}

function set(input: Input, value: string): void {
  if (input instanceof HTMLInputElement && input.type === "checkbox") input.checked = value === "true";
  else input.value = value;
}
