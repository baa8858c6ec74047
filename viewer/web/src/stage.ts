// Splats on a canvas: three.js and Spark, set to draw by the rules of the training rasteriser, and only when something
// changed.

import { ExtSplats, SparkRenderer, SplatFileType, SplatMesh } from "@sparkjsdev/spark";
import * as THREE from "three";
import type { Kind, Up } from "./api";
import { BoxEdges, boundsOf } from "./box";
import { DRAFT_PIXELS, Drafts, draftOf } from "./drafts";
import { type Report, Ruler } from "./ruler";
import { Viewpoint } from "./viewpoint";

const TYPES = { ply: SplatFileType.PLY, splat: SplatFileType.SPLAT };
const HALF = Math.sqrt(0.5);
const TURNS: Record<Up, [number, number, number, number]> = {
  "+y": [0, 0, 0, 1],
  "-y": [0, 0, 1, 0],
  "+z": [-HALF, 0, 0, HALF],
  "-z": [HALF, 0, 0, HALF],
}; // xyzw, from a world with that axis up to ours
const FLIP = new THREE.Quaternion(0, 0, 1, 0);
const MAX_PIXELS = 3840 * 2160; // of the canvas, where the screen has more
const IDLE_EVERY = 50; // ms between looks at whether Spark is idle
const TURN = 0.0005; // radians per millisecond

interface Shown {
  bytes: Uint8Array;
  kind: Kind;
  up: Up;
}

export class Stage {
  readonly viewpoint: Viewpoint;
  readonly drafts = new Drafts(() => this.makeDraft(), () => this.exchange(), () => this.turning);
  frameId = 0;
  count = 0;
  turning = false;
  last: Shown | null = null;
  onMove: () => void = () => {};
  onUpAxis: (up: Up) => void = () => {};

  private readonly renderer: THREE.WebGLRenderer;
  private readonly scene = new THREE.Scene();
  private readonly spark: SparkRenderer;
  private readonly grid = new THREE.GridHelper(4, 16, 0x888888, 0xaaaaaa);
  private readonly watcher: ResizeObserver;
  private readonly box = new BoxEdges();
  private readonly ruler: Ruler;
  private mesh: SplatMesh | null = null;
  private source: ExtSplats | null = null;
  private generation = 0;
  private closed = false;
  private ratio = 0; // of the screen, when the canvas was fitted
  private flipped = false;
  private up: Up = "+y"; // what the splats are taken to have up, beside what their file says
  private scheduled = false;
  private turned = 0; // time of the last frame of the turntable

  /** Throws where there is no WebGL2. */
  constructor(readonly canvas: HTMLCanvasElement) {
    this.viewpoint = new Viewpoint(canvas);
    this.renderer = new THREE.WebGLRenderer({ canvas, antialias: false, alpha: true, preserveDrawingBuffer: false });
    this.renderer.setClearAlpha(0); // the ground is the page's
    this.spark = new SparkRenderer({
      renderer: this.renderer,
      onDirty: () => this.request(),
      preBlurAmount: 0.3, // eps2d of training, without the correction of opacity
      blurAmount: 0,
      sortRadial: false,
      maxStdDev: Math.sqrt(2 * Math.log(255)), // where an opaque splat falls below 1/255
      minAlpha: 1 / 255,
      maxPixelRadius: 4096,
      accumExtSplats: true,
      enableLod: false,
    });
    this.ruler = new Ruler(canvas, this.viewpoint.camera, () => this.target, () => this.request());
    this.grid.visible = false;
    this.scene.add(this.spark, this.grid, this.box.lines, this.ruler.line);
    this.viewpoint.controls.addEventListener("change", () => {
      if (this.mesh) this.drafts.moves();
      this.request();
      this.onMove();
    });
    this.watcher = new ResizeObserver(() => this.fit());
    this.watcher.observe(canvas.parentElement ?? canvas);
    this.fit();
    this.viewpoint.reset();
  }

  dispose(): void {
    this.closed = true;
    this.generation++;
    this.turning = false;
    this.watcher.disconnect();
    this.viewpoint.dispose();
    this.drafts.rests();
    void this.free();
  }

  /** Spark sorts between frames, and fails where what it reads is freed meanwhile. */
  private async free(): Promise<void> {
    const { spark, renderer } = this;
    const works = () => spark.sorting || spark.sortTimeoutId !== -1 || spark.updateTimeoutId !== -1;
    while (works() && !renderer.getContext().isContextLost()) await new Promise((resolve) => setTimeout(resolve, IDLE_EVERY));
    this.dropDraft();
    this.mesh?.dispose();
    spark.dispose();
    renderer.dispose();
  }

  /** Puts these splats in the place of those shown; they appear together with their order, so nothing flashes. */
  async show(bytes: Uint8Array, kind: Kind, up: Up): Promise<boolean> {
    const generation = ++this.generation;
    const source = new ExtSplats({ fileBytes: bytes.slice(), fileType: TYPES[kind] });
    await source.initialized; // a mesh that comes before its splats would show none
    if (generation !== this.generation) {
      source.dispose();
      return false;
    }
    const mesh = new SplatMesh({ extSplats: source, editable: false, raycastable: false });
    this.stand(mesh, up);
    const old = this.mesh;
    this.dropDraft();
    this.scene.add(mesh);
    if (old) {
      this.scene.remove(old);
      old.dispose();
    }
    this.mesh = mesh;
    this.source = source;
    this.count = source.numSplats;
    this.last = { bytes, kind, up };
    this.request();
    await this.settled();
    if (old && !this.closed) this.forget(old);
    return !this.closed;
  }

  /** Turns the splats by half a turn about z: for a file that was taken for the other way up. */
  flip(): void {
    this.flipped = !this.flipped;
    this.standAgain();
  }

  /** Takes this axis of the splats for the one that points up. */
  set upAxis(up: Up) {
    this.up = up;
    this.flipped = false;
    this.standAgain();
    this.onUpAxis(up);
  }

  get upAxis(): Up {
    return this.up;
  }

  /** Shows its splats as another stage does: which way up, from where, with its grid, box and ruler. */
  takeAfter(other: Stage): void {
    this.upAxis = other.up;
    this.flipped = other.flipped;
    this.viewpoint.view = other.viewpoint.view;
    this.showGrid(other.gridShown);
    this.outline(other.box.corners);
    this.measure(other.ruler.report);
  }

  private standAgain(): void {
    for (const mesh of [this.mesh, this.drafts.mesh]) if (mesh && this.last) this.stand(mesh, this.last.up);
    this.ruler.restart();
  }

  private stand(mesh: SplatMesh, up: Up): void {
    mesh.quaternion.set(...TURNS[up]).premultiply(new THREE.Quaternion(...TURNS[this.up]));
    if (this.flipped) mesh.quaternion.premultiply(FLIP);
  }

  /** Spark leaves a mesh's material to three.js, which keeps it until told. Now the new one shares its program. */
  private forget(mesh: SplatMesh): void {
    const { generator, covGenerator } = mesh;
    if (generator) this.spark.current.prepareProgramMaterial(generator, covGenerator).material.dispose();
  }

  /** Resolves when everything requested is drawn and in order, or the stage is closed. */
  async settled(): Promise<void> {
    let quiet = 0;
    while (quiet < 3 && !this.closed) {
      await new Promise((resolve) => requestAnimationFrame(resolve));
      const { sorting, sortDirty, dirty } = this.spark;
      const drafting = this.drafts.active && !this.turning;
      quiet = sorting || sortDirty || dirty || drafting || this.scheduled ? 0 : quiet + 1;
    }
  }

  request(): void {
    if (this.scheduled || this.closed) return;
    this.scheduled = true;
    this.drafts.frameRequested();
    requestAnimationFrame((now) => {
      this.scheduled = false;
      if (!this.closed) this.draw(now);
    });
  }

  private draw(now: number): void {
    this.drafts.frameBegins();
    if (this.turning) {
      this.viewpoint.orbit(-TURN * Math.min(100, now - (this.turned || now)), 0);
      this.turned = now;
      this.request();
    }
    if (this.ratio !== devicePixelRatio) this.fit(); // the window came to another screen
    this.renderer.render(this.scene, this.viewpoint.camera);
    this.frameId++;
  }

  turn(on: boolean): void {
    this.turning = on;
    this.turned = 0;
    if (!on) this.drafts.rests();
    this.request();
  }

  showGrid(on: boolean): void {
    this.grid.visible = on;
    this.request();
  }

  get gridShown(): boolean {
    return this.grid.visible;
  }

  /** Moves so that nearly all splats fill the frame. */
  frame(): void {
    const centers: THREE.Vector3[] = [];
    this.source?.forEachSplat((_i, center) => centers.push(center.clone()));
    if (this.mesh) this.viewpoint.frame(centers, this.mesh.quaternion);
  }

  /** Shows the edges of a box, lower corner and upper corner; null hides them. */
  outline(corners: number[] | null): void {
    this.box.show(corners);
    this.request();
  }

  /** Lower and upper corner of the box that holds the centers of all splats, as they stand. */
  get bounds(): number[] {
    return boundsOf(this.target);
  }

  /** Reports the distance between two splats that are clicked on; null ends that. */
  measure(report: Report | null): void {
    this.ruler.measure(report);
  }

  /** A square picture of the view, rows from the top, four bytes a pixel. */
  async capture(size: number, background: string): Promise<Uint8ClampedArray> {
    this.drafts.rests();
    this.renderer.setClearColor(background, 1);
    this.size(size, size, 1);
    this.request();
    await this.settled();
    this.renderer.render(this.scene, this.viewpoint.camera);
    const gl = this.renderer.getContext();
    const pixels = new Uint8Array(4 * size * size);
    gl.readPixels(0, 0, size, size, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
    this.renderer.setClearAlpha(0);
    this.fit();
    const rows = new Uint8ClampedArray(pixels.length);
    for (let y = 0; y < size; y++) rows.set(pixels.subarray(4 * size * (size - 1 - y), 4 * size * (size - y)), 4 * size * y);
    return rows;
  }

  /** What three.js holds on the graphics card. */
  get held(): { textures: number; geometries: number } {
    return { ...this.renderer.info.memory };
  }

  private fit(): void {
    const box = (this.canvas.parentElement ?? this.canvas).getBoundingClientRect();
    const [width, height] = [Math.max(1, box.width), Math.max(1, box.height)];
    this.ratio = devicePixelRatio;
    const most = this.drafts.active ? DRAFT_PIXELS : MAX_PIXELS;
    this.size(width, height, Math.min(devicePixelRatio, Math.sqrt(most / (width * height))));
    this.request();
  }

  private size(width: number, height: number, ratio: number): void {
    this.renderer.setPixelRatio(ratio);
    this.renderer.setSize(width, height, false);
    this.viewpoint.aspect(width / height);
  }

  private get target() {
    return this.mesh && this.source ? { splats: this.source, mesh: this.mesh } : null;
  }

  private exchange(): void {
    const { active, mesh } = this.drafts;
    if (this.mesh) this.mesh.visible = !active || !mesh;
    if (mesh) mesh.visible = active;
    this.fit();
  }

  private makeDraft(): SplatMesh | null {
    const mesh = this.source && draftOf(this.source);
    if (!mesh || !this.last) return null;
    this.stand(mesh, this.last.up);
    mesh.visible = false;
    this.scene.add(mesh);
    return mesh;
  }

  private dropDraft(): void {
    const draft = this.drafts.drop();
    if (!draft) return;
    this.scene.remove(draft);
    draft.dispose();
    this.forget(draft);
  }
}
