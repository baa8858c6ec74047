// A box along the axes: the edges of one that somebody cuts to, and the one that holds all splats.

import * as THREE from "three";
import type { Target } from "./ruler";

export class BoxEdges {
  readonly lines = new THREE.LineSegments(new THREE.EdgesGeometry(new THREE.BoxGeometry()), new THREE.LineBasicMaterial({ color: 0xe0782f }));

  corners: number[] | null = null;

  constructor() {
    this.lines.visible = false;
  }

  /** corners: lower and upper, world units; null hides the edges. */
  show(corners: number[] | null): void {
    this.corners = corners;
    this.lines.visible = corners !== null;
    if (!corners) return;
    const [low, high] = [new THREE.Vector3(...corners.slice(0, 3)), new THREE.Vector3(...corners.slice(3))];
    this.lines.position.copy(low).add(high).multiplyScalar(0.5);
    this.lines.scale.copy(high.sub(low)).max(new THREE.Vector3(1e-4, 1e-4, 1e-4));
  }
}

/** Lower and upper corner of the box that holds the centers of all splats, as they stand. */
export function boundsOf(target: Target | null): number[] {
  const box = new THREE.Box3();
  target?.splats.forEachSplat((_i, center) => box.expandByPoint(center));
  if (target) box.applyMatrix4(new THREE.Matrix4().makeRotationFromQuaternion(target.mesh.quaternion));
  return [...box.min.toArray(), ...box.max.toArray()];
}
