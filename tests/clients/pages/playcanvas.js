import * as pc from "playcanvas";

// scene.turn: degrees about x, y and z by which the object's entity is turned.
export async function draw(canvas, scene) {
  const options = new pc.AppOptions();
  options.graphicsDevice = await pc.createGraphicsDevice(canvas, { deviceTypes: ["webgl2"], antialias: false });
  options.componentSystems = [
    pc.RenderComponentSystem,
    pc.CameraComponentSystem,
    pc.LightComponentSystem,
    pc.GSplatComponentSystem,
  ];
  options.resourceHandlers = [pc.TextureHandler, pc.ContainerHandler, pc.GSplatHandler];
  const app = new pc.AppBase(canvas);
  app.init(options);
  app.setCanvasFillMode(pc.FILLMODE_NONE, scene.size, scene.size);
  app.setCanvasResolution(pc.RESOLUTION_FIXED, scene.size, scene.size);
  app.start();
  const camera = new pc.Entity();
  camera.addComponent("camera", { clearColor: new pc.Color(1, 1, 1), fov: scene.fovy, nearClip: 0.05, farClip: 100 });
  camera.setLocalPosition(...scene.position);
  camera.setLocalRotation(...scene.quaternion);
  app.root.addChild(camera);
  const isContainer = scene.url.endsWith(".glb");
  const asset = new pc.Asset("object", isContainer ? "container" : "gsplat", { url: scene.url });
  app.assets.add(asset);
  await new Promise((resolve, reject) => {
    asset.ready(resolve);
    asset.on("error", (message) => reject(new Error(message)));
    app.assets.load(asset);
  });
  let object = new pc.Entity();
  if (isContainer) object = asset.resource.instantiateRenderEntity();
  else object.addComponent("gsplat", { asset });
  if (scene.turn) object.setLocalEulerAngles(...scene.turn);
  app.root.addChild(object);
  return () => {}; // it draws by itself
}
