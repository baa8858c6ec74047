// A ruler: clicks on two splats give the distance between their centers.

import type { ExtSplats, SplatMesh } from "@sparkjsdev/spark";
import * as THREE from "three";

const NEAR = 8; // CSS pixels from a splat's center within which a click is on it
const STILL = 4; // CSS pixels that the pointer may move while it is down
const FAINT = 0.2; // opacity below which a splat cannot be clicked on

/** The distance in world units, or null while one end is missing. */
export type Report = (length: number | null) => void;

export interface Target {
  splats: ExtSplats;
  mesh: SplatMesh;
}

export class Ruler {
  readonly line = new THREE.Line(new THREE.BufferGeometry(), new THREE.LineBasicMaterial({ color: 0xe0782f, depthTest: false }));
  report: Report | null = null; // null while nobody measures
  private readonly ends: THREE.Vector3[] = [];

  /** target: the splats that can be clicked on. changed: the line has to be drawn anew. */
  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly camera: THREE.PerspectiveCamera,
    private readonly target: () => Target | null,
    private readonly changed: () => void,
  ) {
    this.line.renderOrder = 1;
    this.line.visible = false;
    let down: PointerEvent | null = null;
    canvas.addEventListener("pointerdown", (event) => (down = event));
    canvas.addEventListener("pointerup", (event) => {
      if (down && Math.hypot(event.offsetX - down.offsetX, event.offsetY - down.offsetY) < STILL) this.pick(event.offsetX, event.offsetY);
    });
  }

  /** From now on two clicks are reported; null ends that. */
  measure(report: Report | null): void {
    this.report = report;
    this.restart();
  }

  /** Forgets the ends: for splats that stand in another way. */
  restart(): void {
    this.ends.length = 0;
    this.line.visible = false;
    this.changed();
  }

  /** Takes the foremost splat near a place on the canvas, CSS pixels, for an end. */
  private pick(x: number, y: number): void {
    const target = this.target();
    const on = this.report && target && this.hit(target, x, y);
    if (!on) return;
    if (this.ends.length === 2) this.ends.length = 0;
    this.ends.push(on);
    const whole = this.ends.length === 2;
    if (whole) this.line.geometry.setFromPoints(this.ends);
    this.line.visible = whole;
    this.report?.(whole ? this.ends[0].distanceTo(this.ends[1]) : null);
    this.changed();
  }

  private hit({ splats, mesh }: Target, x: number, y: number): THREE.Vector3 | null {
    const { clientWidth, clientHeight } = this.canvas;
    const toClip = new THREE.Matrix4().multiplyMatrices(this.camera.projectionMatrix, this.camera.matrixWorldInverse);
    toClip.multiply(new THREE.Matrix4().makeRotationFromQuaternion(mesh.quaternion));
    const [on, seen] = [new THREE.Vector3(), new THREE.Vector3()];
    let least = Infinity;
    splats.forEachSplat((_i, center, _s, _q, opacity) => {
      if (opacity < FAINT) return;
      seen.copy(center).applyMatrix4(toClip);
      const off = Math.hypot(((seen.x + 1) / 2) * clientWidth - x, ((1 - seen.y) / 2) * clientHeight - y);
      if (off > NEAR || seen.z > least || seen.z < -1) return;
      least = seen.z;
      on.copy(center);
    });
    return least === Infinity ? null : on.applyQuaternion(mesh.quaternion);
  }
}
