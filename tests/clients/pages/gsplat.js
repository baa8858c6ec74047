import * as SPLAT from "gsplat";

// Its cameras have OpenCV's axes: x to the right, y down, z forward.
export async function draw(canvas, scene) {
  const renderer = new SPLAT.WebGLRenderer(canvas);
  renderer.backgroundColor = new SPLAT.Color32(255, 255, 255, 255);
  renderer.setSize(scene.size, scene.size);
  const world = new SPLAT.Scene();
  const loader = scene.url.endsWith(".ply") ? SPLAT.PLYLoader : SPLAT.Loader;
  await loader.LoadAsync(scene.url, world, () => {});
  const camera = new SPLAT.Camera();
  camera.data.fx = camera.data.fy = scene.size / 2 / Math.tan((scene.fovy * Math.PI) / 360);
  camera.data.setSize(scene.size, scene.size);
  camera.position = new SPLAT.Vector3(...scene.position);
  const [x, y, z, w] = scene.quaternion; // times half a turn about x
  camera.rotation = new SPLAT.Quaternion(w, z, -y, -x);
  return () => renderer.render(world, camera);
}
