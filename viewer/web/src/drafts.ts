// Drafts: where whole frames are slow, a moving view shows the largest splats alone and in fewer pixels, until it rests.

import { type ExtSplats, SplatMesh } from "@sparkjsdev/spark";

export const DRAFT_PIXELS = 160 * 120; // of the canvas; software draws about ten million a second
const SLOW = 70; // ms between the request for a frame and its drawing, above which it is late
const MAX_SPLATS = 4000;
const REST = 250; // ms without a move until the view is sharp again

export class Drafts {
  enabled = true;
  active = false; // whether the draft is drawn in place of all splats
  mesh: SplatMesh | null = null; // null also where all splats are few enough
  private late = 0; // whole frames in a row that were late
  private requested = 0; // when the next frame was asked for
  private timer = 0;

  /** make: the draft, which is invisible at first. exchange: draws the other of the two. goesOn: whether something
   * moves the view without end. */
  constructor(
    private readonly make: () => SplatMesh | null,
    private readonly exchange: () => void,
    private readonly goesOn: () => boolean,
  ) {}

  frameRequested(): void {
    this.requested = performance.now();
  }

  frameBegins(): void {
    if (!this.active) this.late = performance.now() - this.requested > SLOW ? this.late + 1 : 0;
  }

  /** The view moves: from now on a draft, where whole frames were slow, until it rests. */
  moves(): void {
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => !this.goesOn() && this.rests(), REST);
    if (this.late < 2 || !this.enabled || this.active) return;
    this.mesh ??= this.make();
    this.active = true;
    this.exchange();
  }

  rests(): void {
    clearTimeout(this.timer);
    if (!this.active) return;
    this.active = false;
    this.exchange();
  }

  /** Forgets the draft, which is returned for its owner to free: there are other splats, or none. */
  drop(): SplatMesh | null {
    this.rests();
    const { mesh } = this;
    this.mesh = null;
    return mesh;
  }
}

/** The splats that cover most, without what depends on the view; null where all are few enough. */
export function draftOf(splats: ExtSplats): SplatMesh | null {
  if (splats.numSplats <= MAX_SPLATS) return null;
  const weights = new Float32Array(splats.numSplats);
  splats.forEachSplat((i, _center, scales, _q, opacity) => {
    const [, middle, large] = scales.toArray().sort((a, b) => a - b);
    weights[i] = opacity * middle * large;
  });
  const order = Uint32Array.from(weights.keys()).sort((a, b) => weights[b] - weights[a]);
  return new SplatMesh({ extSplats: splats.extractSplats(order.subarray(0, MAX_SPLATS), false), editable: false, raycastable: false });
}
