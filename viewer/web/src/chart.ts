// A curve as SVG with axes, and its numbers as a sentence and as a table for those who do not see it.

import { el } from "./dom";

const [WIDTH, HEIGHT] = [320, 132];
const [LEFT, RIGHT, TOP, BOTTOM] = [46, 10, 8, 22]; // around the plot
const MAX_POINTS = 300;
const ROWS = 20;
const SVG = "http://www.w3.org/2000/svg";

export type Point = [step: number, value: number];

/** How the vertical axis is made: `log` by powers of ten, `share` from 0 to 1, `zero` from 0. */
export type Scale = "log" | "share" | "zero";

export class Chart {
  readonly element: HTMLElement;
  private readonly svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true" });
  private readonly summary = el("p", { class: "hint" });
  private readonly body = el("tbody");

  constructor(
    title: string,
    private readonly scale: Scale,
  ) {
    const head = el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "step"), el("th", { scope: "col" }, title)));
    const table = el("details", {}, el("summary", {}, `Numbers of ${title}`), el("table", {}, head, this.body));
    const name = title[0].toUpperCase() + title.slice(1);
    this.element = el("section", { class: "chart" }, el("h3", {}, name + (scale === "log" ? " (log)" : "")), this.svg, this.summary, table);
  }

  draw(all: Point[]): void {
    const points = all.filter(([, value]) => Number.isFinite(value) && (this.scale !== "log" || value > 0));
    this.element.hidden = points.length < 2;
    if (this.element.hidden) return;
    const values = points.map((p) => p[1]);
    const ticks = this.ticks(Math.min(...values), Math.max(...values));
    const height = (value: number) => (this.scale === "log" ? Math.log10(value) : value);
    const [low, high] = [height(ticks[0]), height(ticks[ticks.length - 1])];
    const last = points[points.length - 1][0];
    const steps = spread(0, last);
    const x = (step: number) => LEFT + (step / Math.max(last, steps[steps.length - 1])) * (WIDTH - LEFT - RIGHT);
    const y = (value: number) => HEIGHT - BOTTOM - ((height(value) - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
    const place = ([step, value]: Point) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`;
    this.svg.replaceChildren(
      ...ticks.flatMap((tick) => [
        shape("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(tick), y2: y(tick) }),
        label(this.written(tick), LEFT - 6, y(tick) + 4, "end"),
      ]),
      ...steps.map((step, i) => label(i ? compact(step) : "step 0", x(step), HEIGHT - 6, i ? "middle" : "start")),
      shape("polyline", { points: thin(points, MAX_POINTS).map(place).join(" ") }),
    );
    const [start, end] = [values[0], values[values.length - 1]];
    const range = `between ${short(Math.min(...values))} and ${short(Math.max(...values))}`;
    this.summary.textContent = `From ${short(start)} to ${short(end)}, ${range}.`;
    this.body.replaceChildren(
      ...thin(points, ROWS).map(([step, value]) => el("tr", {}, el("td", {}, String(step)), el("td", {}, short(value)))),
    );
  }

  /** Where the axis has marks, from its lower end to its upper one. */
  private ticks(low: number, high: number): number[] {
    if (this.scale === "share") return [0, 0.5, 1];
    if (this.scale === "zero") return spread(0, high);
    const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
    const stride = Math.max(1, Math.ceil((last - first) / 4));
    return Array.from({ length: Math.ceil(Math.max(1, last - first) / stride) + 1 }, (_, i) => 10 ** (first + i * stride));
  }

  private written(tick: number): string {
    return this.scale === "share" ? `${Math.round(100 * tick)} %` : compact(tick);
  }
}

function shape(tag: string, attributes: Record<string, string | number>): SVGElement {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
  return node;
}

function label(text: string, x: number, y: number, anchor: string): SVGElement {
  const node = shape("text", { x, y, "text-anchor": anchor });
  node.textContent = text;
  return node;
}

/** Three to five round numbers from `low` to `high` or a little beyond. */
function spread(low: number, high: number): number[] {
  const rough = Math.max(high - low, 1e-9) / 3;
  const power = 10 ** Math.floor(Math.log10(rough));
  const stride = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough) ?? rough;
  return Array.from({ length: Math.max(1, Math.ceil((high - low) / stride - 1e-9)) + 1 }, (_, i) => low + i * stride);
}

/** At most `count` points, the first and the last among them. */
function thin(points: Point[], count: number): Point[] {
  if (points.length <= count) return points;
  return Array.from({ length: count }, (_, i) => points[Math.round((i * (points.length - 1)) / (count - 1))]);
}

function compact(value: number): string {
  return Math.abs(value) >= 10_000 ? `${Number((value / 1000).toPrecision(3))}k` : String(Number(value.toPrecision(3)));
}

export function short(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toPrecision(3);
}
