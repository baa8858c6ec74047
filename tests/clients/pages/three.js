import * as THREE from "three";
import { GLTFLoader } from "three/addons/loaders/GLTFLoader.js";

// scene.light: "white" is white ambient light of irradiance pi, "sun" one lamp, "environment" a sky of which radiance
// grows with height. scene.lambert replaces the file's own materials by Lambert ones of the same colours.
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
    if (scene.lambert) {
      const { map, vertexColors } = part.material;
      part.material = new THREE.MeshLambertMaterial({ map, vertexColors });
    }
  });
  light(world, renderer, scene);
  const camera = new THREE.PerspectiveCamera(scene.fovy, 1, 0.05, 100);
  camera.position.fromArray(scene.position);
  camera.quaternion.fromArray(scene.quaternion);
  return () => renderer.render(world, camera);
}

function light(world, renderer, { light, lambert }) {
  if (light === "white") world.add(new THREE.AmbientLight("#ffffff", Math.PI));
  if (light === "sun") {
    const sun = new THREE.DirectionalLight("#ffffff", Math.PI);
    sun.position.set(1, 2, 3);
    world.add(sun, new THREE.AmbientLight("#ffffff", 0.6));
  }
  if (light === "environment" && !lambert) world.environment = sky(renderer);
  if (light === "environment" && lambert) {
    // Lambert materials see no environment. Radiance 0.8 + 0.4 y is irradiance pi (0.8 + 2/3 0.4 y): a hemisphere light.
    const half = (2 / 3) * 0.4;
    const [above, below] = [0.8 + half, 0.8 - half].map((value) => new THREE.Color(value, value, value));
    world.add(new THREE.HemisphereLight(above, below, Math.PI));
  }
}

/** Light of radiance 0.8 + 0.4 y from every direction. */
function sky(renderer) {
  const dome = new THREE.Mesh(
    new THREE.SphereGeometry(10, 64, 32),
    new THREE.ShaderMaterial({
      side: THREE.BackSide,
      vertexShader:
        "varying vec3 at; void main() { at = position; gl_Position = projectionMatrix * modelViewMatrix * vec4(at, 1.0); }",
      fragmentShader: "varying vec3 at; void main() { gl_FragColor = vec4(vec3(0.8 + 0.4 * normalize(at).y), 1.0); }",
    }),
  );
  const around = new THREE.Scene();
  around.add(dome);
  return new THREE.PMREMGenerator(renderer).fromScene(around).texture;
}
