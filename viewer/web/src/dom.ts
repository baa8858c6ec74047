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

/** A command line, whole, and a button that copies it. */
export function command(text: string): HTMLElement {
  const code = el("code", {}, text);
  const copy = button("Copy", () => void copied(code, copy), { "aria-label": `Copy: ${text}` });
  return el("div", { class: "command" }, el("pre", { tabindex: 0 }, code), copy);
}

async function copied(code: HTMLElement, copy: HTMLButtonElement): Promise<void> {
  try {
    await navigator.clipboard.writeText(code.textContent ?? "");
    copy.textContent = "Copied";
  } catch {
    getSelection()?.selectAllChildren(code); // then the usual keys copy it
    copy.textContent = "Selected";
  }
  setTimeout(() => (copy.textContent = "Copy"), 2000);
}

/** A table of names and values. */
export function facts(rows: [string, unknown][]): HTMLElement {
  return el(
    "dl",
    {},
    ...rows
      .filter(([, value]) => value !== undefined && value !== null && value !== "" && value !== false)
      .flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))]),
  );
}

/** A field with the name above it and a place for what is wrong with it. */
export function labelled(name: string, input: HTMLElement): HTMLElement {
  return el("label", { class: "field" }, el("span", {}, name), input);
}

export function save(blob: Blob, name: string): void {
  const address = URL.createObjectURL(blob);
  el("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
