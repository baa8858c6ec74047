"""Run alone, in a process that has bpy: loads a file as Blender's own importer does, and prints what is there as JSON.

    python blender.py FILE PICTURE SIZE FOVY "MATRIX"

PICTURE is what Cycles draws by white light from everywhere; MATRIX is the camera in the world, 16 numbers in JSON.
"""

import json
import sys

import bpy
from mathutils import Matrix

IMPORT = {
    "glb": lambda path: bpy.ops.import_scene.gltf(filepath=path),
    "obj": lambda path: bpy.ops.wm.obj_import(filepath=path),
    "ply": lambda path: bpy.ops.wm.ply_import(filepath=path),
}


def main(path: str, picture: str, size: str, fovy: str, matrix: str) -> None:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    IMPORT[path.rpartition(".")[2]](path)
    (thing,) = (found for found in bpy.data.objects if found.type == "MESH")
    seen = {"version": bpy.app.version_string, "materials": [_material(slot.material) for slot in thing.material_slots]}
    seen["vertices"] = [list(thing.matrix_world @ vertex.co) for vertex in thing.data.vertices]
    seen["faces"] = [list(face.vertices) for face in thing.data.polygons]
    seen["attributes"] = {found.name: found.data_type for found in thing.data.attributes}
    seen["colours"] = [
        [list(value.color) for value in found.data] for found in thing.data.color_attributes
    ]  # linear  # fmt: skip
    if seen["faces"]:
        _draw(picture, int(size), float(fovy), json.loads(matrix))
    print("\n" + json.dumps(seen))


def _material(material) -> dict:
    (shader,) = (node for node in material.node_tree.nodes if node.type == "BSDF_PRINCIPLED")
    base = shader.inputs["Base Color"]
    return {
        **{name: shader.inputs[name].default_value for name in ("Metallic", "Roughness", "Specular IOR Level")},
        "from": base.links[0].from_node.type if base.links else None,
    }


def _draw(picture: str, size: int, fovy: float, matrix: list) -> None:
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.device, scene.cycles.samples, scene.cycles.use_denoising = "CPU", 16, False
    scene.cycles.max_bounces = 0  # light of the sky alone
    scene.render.resolution_x = scene.render.resolution_y = size
    scene.render.film_transparent, scene.view_settings.view_transform = True, "Standard"
    scene.render.threads_mode, scene.render.threads = "FIXED", 1
    scene.world = bpy.data.worlds.new("sky")
    scene.world.use_nodes = True
    scene.world.node_tree.nodes["Background"].inputs["Color"].default_value = (1, 1, 1, 1)
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.data.angle, camera.matrix_world = fovy, Matrix(matrix)
    scene.collection.objects.link(camera)
    scene.camera, scene.render.filepath = camera, picture
    scene.render.image_settings.file_format = "PNG"
    bpy.ops.render.render(write_still=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
