"""Reads the models of Sweet Home 3D furniture libraries (.sh3f: zip archives of OBJ files and a catalogue)."""

from __future__ import annotations

import hashlib
import io
import posixpath
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from numpy.typing import NDArray
from trimesh.resolvers import Resolver

from splatdistill.embedded.corpus.meshes import ModelMesh, to_mesh, yaw

CATALOGUE = "PluginFurnitureCatalog.properties"
SEARCH_PATHS = (
    "/usr/share/sweethome3d/furniture",
    "/usr/local/share/sweethome3d/furniture",
    "~/.eteks/sweethome3d/furniture",
)

_SHA256 = {  # of version 1.8, whose numbers furniture.csv uses
    "BlendSwap-CC-0.sh3f": "7ef093fe70cedbb160bdb532d86a84580459635e34130c16777f549eba1993dc",
    "BlendSwap-CC-BY.sh3f": "29ae78937b4d5dbe93db74067817a984fa411f017b007fd666bc40368bdb0c83",
    "KatorLegaz.sh3f": "f512443b5d3a6903497573095f971f44334b3165ab32182133051fa9487764a6",
    "Reallusion.sh3f": "dd553207876ccec6372dde7aaea6b2dcf2d631997fcdb8a9856a639e0db9aa9b",
    "Scopia.sh3f": "b4505451b1e8ab339c101c0afddfef4e1a07b95aa8c821c61ec41487afd43850",
}
_ENTRY = re.compile(r"^(\w+)#(\d+)\s*[=:]\s*(.*)$")
CC0 = "https://creativecommons.org/publicdomain/zero/1.0/"
_LICENCES = {"BlendSwap-CC-0": CC0}
_CC_BY_3 = "https://creativecommons.org/licenses/by/3.0/"
_CC_BY_3_US = "https://creativecommons.org/licenses/by/3.0/us/"


@dataclass(frozen=True)
class Model:
    """One catalogue entry. rotation: [3,3] from the file's axes to +y up, front +z. licence: its URL."""

    archive: Path
    library: str
    number: int
    name: str
    creator: str
    path: str
    rotation: NDArray[np.floating]
    licence: str

    @property
    def key(self) -> str:
        return f"{self.library}/{self.number}"


def find_libraries(folder: str | Path | None = None) -> list[Path]:
    """The .sh3f files of a folder, or of the first known place that has some."""
    places = [Path(folder)] if folder else [Path(p).expanduser() for p in SEARCH_PATHS]
    for place in places:
        if found := sorted(place.glob("*.sh3f")):
            return found
    raise ValueError(
        f"No .sh3f furniture library in {', '.join(str(p) for p in places)}: "
        "`apt-get install sweethome3d-furniture` brings them, or give --furniture FOLDER."
    )


def check_versions(libraries: list[Path]) -> None:
    """ValueError, one sentence, for a library that is not the one whose models the table names."""
    for path in libraries:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != _SHA256.get(path.name):
                raise ValueError(f"{path} is not that of sweethome3d-furniture 1.8-1: its SHA-256 sum differs.")


def read_catalogue(archive: Path) -> list[Model]:
    """All models of one library, in catalogue order."""
    entries: dict[int, dict[str, str]] = {}
    with zipfile.ZipFile(archive) as contents:
        for line in contents.read(CATALOGUE).decode("latin-1").splitlines():
            if match := _ENTRY.match(line.strip()):
                value = (
                    match[3].encode("latin-1", "replace").decode("unicode_escape") if "\\u" in match[3] else match[3]
                )
                entries.setdefault(int(match[2]), {})[match[1]] = value.strip()
        names = set(contents.namelist())
        return [
            Model(
                archive=archive,
                library=archive.stem,
                number=number,
                name=entry["name"],
                creator=entry.get("creator", "unknown"),
                path=entry["model"].lstrip("/"),
                rotation=_rotation(entry.get("modelRotation")),
                licence=_licence(contents, names, archive.stem, entry["model"].lstrip("/")),
            )
            for number, entry in sorted(entries.items())
            if entry.get("model", "").lower().endswith(".obj")
        ]


def load_mesh(model: Model, *, yaw_deg: float = 0.0) -> ModelMesh:
    """The model in the unit sphere, turned by `yaw_deg` about +y after the rotation that the catalogue gives."""
    with zipfile.ZipFile(model.archive) as contents:
        resolver = _ZipFolder(contents, posixpath.dirname(model.path))
        source = io.BytesIO(contents.read(model.path))
        scene = trimesh.load_scene(source, file_type="obj", resolver=resolver, process=False)
    label = f"The model {model.key} ({model.name})"
    return to_mesh(list(scene.geometry.values()), turn=yaw(yaw_deg) @ model.rotation, label=label)


class _ZipFolder(Resolver):
    """Lets trimesh read the files beside an OBJ inside the archive; names differ in case and slashes now and then."""

    def __init__(self, contents: zipfile.ZipFile, folder: str) -> None:
        self.contents, self.folder = contents, folder
        self.names = {name.lower(): name for name in contents.namelist()}

    def get(self, key: str) -> bytes:
        wanted = posixpath.normpath(posixpath.join(self.folder, key.strip().replace("\\", "/")))
        return self.contents.read(self.names.get(wanted.lower(), wanted))

    def keys(self) -> Iterator[str]:
        return iter(self.names.values())

    def write(self, name: str, data: bytes) -> None:
        raise PermissionError("Furniture libraries are read only.")

    def namespaced(self, namespace: str) -> _ZipFolder:
        return _ZipFolder(self.contents, posixpath.join(self.folder, namespace))


def _rotation(text: str | None) -> NDArray[np.floating]:
    return np.array(text.split(), dtype=np.float64).reshape(3, 3) if text else np.eye(3)


def _licence(contents: zipfile.ZipFile, names: set[str], library: str, path: str) -> str:
    """The licence file beside a model wins over the library's: two models of the CC0 library say CC-BY."""
    folder = posixpath.dirname(path) + "/"
    for name in sorted(n for n in names if n.startswith(folder) and "LICENSE" in n.upper()):
        text = contents.read(name).decode("latin-1").lower()
        if "cc-0" in text or "cc0" in text or "public domain" in text or "publicdomain" in text:
            return CC0
        if "attribution" in text or "cc-by" in text:
            return _CC_BY_3
    return _LICENCES.get(library, _CC_BY_3_US if library in ("KatorLegaz", "Reallusion") else _CC_BY_3)
