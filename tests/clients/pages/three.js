import * as THREE from "three";
import { GLTFLoader } from "three/addons/loaders/GLTFLoader.js";

// scene.light: "white" is white ambient light of irradiance pi, "sun" one lamp, "environment" a gradient of sky.
// scene.material: "lambert" replaces the file's own materials by a Lambert one of the same colours.
export async function draw(canvas, scene) {
  const renderer = new THREE.WebGLRenderer({ canvas, antialias: false, preserveDrawingBuffer: true });
  renderer.setClearColor("#ffffff");
  const world = new THREE.Scene();
  const { scene: object } = await new GLTFLoader().loadAsync(scene.url);
  world.add(object);
  window.materials = [];
  object.traverse((part) => {
    if (!part.isMesh && !part.isPoints) return;
    const { type, metalness, roughness } = part.material;
    window.materials.push({ type, metalness, roughness, normals: "normal" in part.geometry.attributes });
    if (part.isPoints) part.material.size = 7; // pixels
    if (scene.material === "lambert") {
      const { map, vertexColors } = part.material;
      part.material = new THREE.MeshLambertMaterial({ map, vertexColors });
    }
  });
  light(world, renderer, scene.light);
  const camera = new THREE.PerspectiveCamera(scene.fovy, 1, 0.05, 100);
  camera.position.fromArray(scene.position);
  camera.quaternion.fromArray(scene.quaternion);
  return () => renderer.render(world, camera);
}

function light(world, renderer, kind) {
  if (kind === "white") world.add(new THREE.AmbientLight("#ffffff", Math.PI));
  if (kind === "sun") {
    const sun = new THREE.DirectionalLight("#ffffff", Math.PI);
    sun.position.set(1, 2, 3);
    world.add(sun, new THREE.AmbientLight("#ffffff", 0.6));
  }
  if (kind === "environment") {
    const sky = new THREE.Scene();
    const dome = new THREE.Mesh(
      new THREE.SphereGeometry(10, 32, 16),
      new THREE.ShaderMaterial({
        side: THREE.BackSide,
        vertexShader: "varying vec3 d; void main() { d = position; gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0); }",
        fragmentShader: "varying vec3 d; void main() { float t = 0.5 + 0.5 * normalize(d).y; gl_FragColor = vec4(vec3(mix(0.4, 1.2, t)), 1.0); }",
      }),
    );
    sky.add(dome);
    world.environment = new THREE.PMREMGenerator(renderer).fromScene(sky).texture;
  }
}
