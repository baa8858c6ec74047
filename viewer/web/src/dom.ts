// Elements without markup: texts of runs and files are only ever text.

type Child = Node | string | null | undefined;
type Properties = Record<string, string | number | boolean | ((event: never) => void) | null | undefined>;

/** An element; functions are listeners, true is an attribute without value, false and null are left out. */
export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Properties = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") node.addEventListener(name, value as EventListener);
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export function button(text: string, act: () => void, properties: Properties = {}): HTMLButtonElement {
  return el("button", { type: "button", click: act, ...properties }, text);
}

export function fill(node: Element, ...children: Child[]): void {
  node.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
}

/** A file's name as a word of a command line. */
export function quoted(name: string): string {
  return /^[\w./-]+$/.test(name) ? name : `'${name.replaceAll("'", "'\\''")}'`;
}

/** A table of names and values. */
export function facts(rows: [string, unknown][]): HTMLElement {
  return el(
    "dl",
    {},
    ...rows
      .filter(([, value]) => value !== undefined && value !== null && value !== "")
      .flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))]),
  );
}
