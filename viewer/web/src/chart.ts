// A curve as SVG, with its numbers as a sentence and as a table for those who do not see it.

import { el } from "./dom";

const [WIDTH, HEIGHT] = [300, 90];
const MAX_POINTS = 300;
const ROWS = 20;

export type Point = [step: number, value: number];

export class Chart {
  readonly element: HTMLElement;
  private readonly line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  private readonly said = el("p", { class: "said" });
  private readonly body = el("tbody");
  private points: Point[] = [];

  constructor(
    title: string,
    private readonly logarithmic: boolean,
  ) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    this.line.setAttribute("vector-effect", "non-scaling-stroke");
    svg.append(this.line);
    const head = el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "step"), el("th", { scope: "col" }, title)));
    const table = el("details", {}, el("summary", {}, `Numbers of ${title}`), el("table", {}, head, this.body));
    this.element = el("section", { class: "chart" }, el("h3", {}, title + (logarithmic ? " (log)" : "")), svg, this.said, table);
  }

  draw(points: Point[]): void {
    this.points = points.filter(([, value]) => Number.isFinite(value) && (!this.logarithmic || value > 0));
    this.element.hidden = this.points.length < 2;
    if (this.element.hidden) return;
    const some = thin(this.points, MAX_POINTS);
    const height = (value: number) => (this.logarithmic ? Math.log10(value) : value);
    const [low, high] = [Math.min(...some.map((p) => height(p[1]))), Math.max(...some.map((p) => height(p[1])))];
    const [first, last] = [some[0][0], some[some.length - 1][0]];
    const place = ([step, value]: Point) => {
      const x = ((step - first) / Math.max(1, last - first)) * WIDTH;
      const y = HEIGHT - 4 - ((height(value) - low) / (high - low || 1)) * (HEIGHT - 8);
      return `${x.toFixed(1)},${y.toFixed(1)}`;
    };
    this.line.setAttribute("points", some.map(place).join(" "));
    const values = this.points.map((p) => p[1]);
    const [start, end] = [values[0], values[values.length - 1]];
    this.said.textContent = `From ${short(start)} to ${short(end)}, between ${short(Math.min(...values))} and ${short(Math.max(...values))}.`;
    this.body.replaceChildren(
      ...thin(this.points, ROWS).map(([step, value]) => el("tr", {}, el("td", {}, String(step)), el("td", {}, short(value)))),
    );
  }
}

/** At most `count` points, the first and the last among them. */
function thin(points: Point[], count: number): Point[] {
  if (points.length <= count) return points;
  return Array.from({ length: count }, (_, i) => points[Math.round((i * (points.length - 1)) / (count - 1))]);
}

export function short(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toPrecision(3);
}
