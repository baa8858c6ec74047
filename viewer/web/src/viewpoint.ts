// Where the camera of a stage stands, what it looks at, and how both move.

import * as THREE from "three";
import { OrbitControls } from "three/addons/controls/OrbitControls.js";
import type { Camera, Placement } from "./api";

const FILL = 0.87; // of the frame, by the sphere that holds most of a file
const STEP = (5 * Math.PI) / 180;

export class Viewpoint {
  readonly camera = new THREE.PerspectiveCamera(37.5, 1, 0.01, 1000);
  readonly controls: OrbitControls;
  private home: Placement = { fovy: 37.5, radius: 3.6, elevation: 15 };

  constructor(canvas: HTMLCanvasElement) {
    this.controls = new OrbitControls(this.camera, canvas);
    this.controls.enableDamping = false;
    this.controls.enableZoom = false; // a page around the canvas must still scroll: the wheel acts with focus only
    canvas.addEventListener("focus", () => (this.controls.enableZoom = true));
    canvas.addEventListener("blur", () => (this.controls.enableZoom = false));
  }

  dispose(): void {
    this.controls.dispose();
  }

  /** Where "reset" goes back to. */
  place(home: Placement): void {
    this.home = home;
    this.aspect(this.camera.aspect);
    this.reset();
  }

  reset(): void {
    this.controls.target.set(0, 0, 0);
    this.look(0, this.home.elevation, this.home.radius);
  }

  /** Sees the target from azimuth and elevation, degrees. */
  look(azimuth: number, elevation: number, radius = this.camera.position.distanceTo(this.controls.target)): void {
    const polar = THREE.MathUtils.degToRad(90 - Math.min(89.99, Math.max(-89.99, elevation)));
    this.camera.position.setFromSphericalCoords(radius, polar, THREE.MathUtils.degToRad(azimuth)).add(this.controls.target);
    this.controls.update();
  }

  /** Turns about the target, radians. */
  orbit(azimuth: number, elevation: number): void {
    const s = this.spherical();
    this.look(THREE.MathUtils.radToDeg(s.theta + azimuth), THREE.MathUtils.radToDeg(Math.PI / 2 - s.phi + elevation));
  }

  step(right: number, up: number): void {
    this.orbit(right * STEP, up * STEP);
  }

  zoom(factor: number): void {
    this.approach(this.spherical().radius * factor);
  }

  /** Moves camera and target in the axes of the camera, in twentieths of their distance. */
  fly(right: number, up: number, back: number): void {
    const move = new THREE.Vector3(right, up, back).multiplyScalar(this.spherical().radius / 20);
    move.applyQuaternion(this.camera.quaternion);
    this.camera.position.add(move);
    this.controls.target.add(move);
    this.controls.update();
  }

  /** Moves so that nearly all of these points fill the frame, once they are turned. */
  frame(points: THREE.Vector3[], turn: THREE.Quaternion): void {
    if (!points.length) return;
    const middle = (axis: "x" | "y" | "z") => {
      const sorted = points.map((c) => c[axis]).sort((a, b) => a - b);
      const few = Math.floor(0.01 * (sorted.length - 1)); // floaters on either side
      return (sorted[few] + sorted[sorted.length - 1 - few]) / 2;
    };
    const target = new THREE.Vector3(middle("x"), middle("y"), middle("z"));
    const far = points.map((c) => c.distanceTo(target)).sort((a, b) => a - b)[Math.floor(0.99 * (points.length - 1))];
    this.controls.target.copy(target.applyQuaternion(turn));
    this.approach(Math.max(far, 1e-3) / (Math.sin(THREE.MathUtils.degToRad(this.home.fovy / 2)) * FILL));
  }

  /** Camera and target as six numbers, for an address or another stage. */
  get view(): number[] {
    return [...this.camera.position.toArray(), ...this.controls.target.toArray()];
  }

  set view(numbers: number[]) {
    if (numbers.length !== 6 || !numbers.every(Number.isFinite)) return;
    this.camera.position.fromArray(numbers, 0);
    this.controls.target.fromArray(numbers, 3);
    this.controls.update();
  }

  /** Looks through a camera; where it stands level, its target is the point of its axis nearest to the middle. */
  through(camera: Camera): void {
    const [eye, forward] = [new THREE.Vector3(...camera.eye), new THREE.Vector3(...camera.forward)];
    const along = Math.max(0.1, -eye.dot(forward));
    this.view = [...eye.toArray(), ...eye.clone().addScaledVector(forward, along).toArray()];
  }

  /** The camera as transforms.json has it: camera to world, x right, y up, z backwards, by rows. */
  get pose(): number[][] {
    this.camera.updateMatrixWorld();
    const m = this.camera.matrixWorld.elements;
    return [0, 1, 2, 3].map((row) => [0, 1, 2, 3].map((column) => m[4 * column + row]));
  }

  /** Fits the angle of view to a frame of this width over height: that of home is of the shorter side. */
  aspect(ratio: number): void {
    this.camera.aspect = ratio;
    const half = Math.tan(THREE.MathUtils.degToRad(this.home.fovy / 2));
    this.camera.fov = 2 * THREE.MathUtils.radToDeg(Math.atan(half / Math.min(1, ratio)));
    this.camera.updateProjectionMatrix();
  }

  private approach(radius: number): void {
    const s = this.spherical();
    this.look(THREE.MathUtils.radToDeg(s.theta), 90 - THREE.MathUtils.radToDeg(s.phi), radius);
  }

  private spherical(): THREE.Spherical {
    return new THREE.Spherical().setFromVector3(this.camera.position.clone().sub(this.controls.target));
  }
}
