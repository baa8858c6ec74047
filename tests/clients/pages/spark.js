import { SparkRenderer, SplatMesh } from "@sparkjsdev/spark";
import * as THREE from "three";

export async function draw(canvas, scene) {
  const renderer = new THREE.WebGLRenderer({ canvas, antialias: false });
  renderer.setClearColor("#ffffff");
  const world = new THREE.Scene();
  const spark = new SparkRenderer({ renderer });
  const mesh = new SplatMesh({ url: scene.url });
  world.add(spark, mesh);
  const camera = new THREE.PerspectiveCamera(scene.fovy, 1, 0.05, 100);
  camera.position.fromArray(scene.position);
  camera.quaternion.fromArray(scene.quaternion);
  await mesh.initialized;
  return () => renderer.render(world, camera);
}
