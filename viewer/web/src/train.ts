// The tab of a training: prompt, progress, curves, requests to it and their outcome.

import type * as api from "./api";
import { Chart, short } from "./chart";
import { button, command, el, facts, fill } from "./dom";

const PATIENCE = 15_000; // ms until a training that was asked for something counts as slow to answer

export class TrainTab {
  private readonly status = el("p", { class: "status" });
  private readonly bar = el("progress", { "aria-label": "Steps done" });
  private readonly asks = el("p", { class: "row" });
  private readonly answer = el("div", { class: "answer", role: "status" });
  private readonly numbers = el("div");
  private readonly charts = {
    num_splats: new Chart("splats", "zero"),
    grad_norm: new Chart("residual norm", "log"),
    share: new Chart("network share", "share"),
  };
  private readonly shares: [number, number][] = [];
  private metrics: api.Metric[] = [];
  private about: api.Manifest;
  private savedBefore = 0; // when the last save was that was here before this page asked
  private asked = ""; // what was asked last, until it is answered
  private slow = 0;

  constructor(
    root: HTMLElement,
    about: api.Manifest,
    private readonly ask: ((request: string) => void) | null,
  ) {
    this.about = about;
    this.savedBefore = about.saved?.time ?? 0;
    const fixed = facts([["Method", about.method], ["Seed", about.seed]]);
    const note = el("p", { class: "note" }, "The residual norm is the size of the teacher's update. It does not measure quality: judge by the previews.");
    const charts = Object.values(this.charts).map((chart) => chart.element);
    root.append(el("h2", {}, about.prompt ?? about.name), this.status, this.bar, this.asks, this.answer, fixed, this.numbers, ...charts, note);
    this.update(about);
    this.draw([]);
  }

  update(about: api.Manifest): void {
    this.about = about;
    const { status, summary, asked = [] } = about;
    const share = summary?.network_share;
    const step = about.step ?? 0;
    if (typeof share === "number" && step > (this.shares.at(-1)?.[0] ?? 0)) this.shares.push([step, share]);
    this.say();
    this.answerRequest();
    if (!this.ask || !(status === "running" || status === "paused")) {
      fill(this.asks);
      return;
    }
    const paused = status === "paused" || asked.includes("pause");
    const one = (request: string, text: string) => button(asked.includes(request) ? `${text} (requested)` : text, () => this.request(request));
    const buttons = [paused ? one("resume", "Resume") : one("pause", "Pause"), one("stop", "Stop"), one("save", "Save splats now")];
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

  request(request: string): void {
    this.asked = request;
    const words: Record<string, string> = {
      pause: "Pause requested. Training pauses after the current step.",
      resume: "Resume requested.",
      stop: "Stop requested. Training saves a checkpoint after the current step, then ends.",
      save: "Save requested. Training saves the splats after the current step.",
    };
    fill(this.answer, el("p", {}, words[request]));
    clearTimeout(this.slow);
    this.slow = window.setTimeout(() => {
      if (this.asked) fill(this.answer, el("p", {}, `${words[request]} There is no answer yet: the step is slow, or the process has ended.`));
    }, PATIENCE);
    this.ask?.(request);
  }

  /** Shows the outcome of the last request, and where its file is. */
  private answerRequest(): void {
    const { status, step, saved, path, commands, asked = [], failure } = this.about;
    if (saved && saved.time > this.savedBefore) {
      this.savedBefore = saved.time;
      this.asked = "";
      fill(this.answer, el("p", {}, `Saved the splats of step ${saved.step}: `, el("code", {}, `${path}/splats.ply`)), el("p", {}, "The Export tab has them in every format."));
    } else if (status === "paused" && this.asked === "pause") {
      this.asked = "";
      fill(this.answer, el("p", {}, `Paused after step ${step}. Press Resume to continue.`));
    } else if (status === "running" && this.asked === "resume" && !asked.includes("pause")) {
      this.asked = "";
      fill(this.answer, el("p", {}, `Resumed after step ${step}.`));
    } else if (status === "stopped") {
      this.asked = "";
      const where = path ? [" with a checkpoint in ", el("code", {}, `${path}/checkpoints`)] : [];
      fill(this.answer, el("p", {}, `Stopped after step ${step}`, ...where, commands?.resume ? ". Resume it:" : "."), commands?.resume ? command(commands.resume) : null);
    } else if (status === "failed") {
      fill(this.answer, el("p", { class: "fault" }, failure ?? ""));
    } else if (status === "silent" && commands?.resume) {
      fill(this.answer, el("p", {}, "If its process has ended, resume it:"), command(commands.resume));
    } else if (status === "done" && this.asked) {
      this.asked = "";
      fill(this.answer, el("p", {}, "Training finished before the request."));
    }
  }

  private say(): void {
    const { status, summary, step = 0, steps = 0 } = this.about;
    const last = this.metrics.at(-1);
    const now = Math.max(step, last?.step ?? 0);
    this.bar.max = steps || 1;
    this.bar.value = status === "done" ? this.bar.max : now;
    this.bar.hidden = status === "done";
    const words: Record<string, string> = {
      running: `Step ${now} of ${steps}${eta(this.metrics, steps)}`,
      paused: `Paused after step ${now} of ${steps}`,
      stopped: `Stopped after step ${step} of ${steps}`,
      done: `Done, ${steps} steps`,
      failed: `Failed after step ${now} of ${steps}`,
      silent: `No progress since step ${now} of ${steps}`,
    };
    this.status.textContent = words[status ?? ""] ?? "";
    this.status.dataset.status = status ?? "";
    const seconds = summary?.seconds_total;
    fill(
      this.numbers,
      facts([
        ["Splats", last?.num_splats ?? summary?.num_splats],
        ["Training time", typeof seconds === "number" && seconds > 0 && `${Math.round(seconds)} s`],
        ["Residual norm", last?.grad_norm && short(last.grad_norm)],
      ]),
    );
  }
}

function eta(metrics: api.Metric[], steps: number): string {
  const [first, last] = [metrics[Math.max(0, metrics.length - 20)], metrics.at(-1)];
  if (!first || !last || last.step <= first.step) return "";
  const seconds = (((last.seconds ?? 0) - (first.seconds ?? 0)) / (last.step - first.step)) * (steps - last.step);
  return `, about ${seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`} left`;
}
