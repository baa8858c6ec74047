"""A corpus in one small file: models as lossless WebP, procedural objects as seeds or as models are.

The file is a zip archive: corpus.json, and for each model two pictures of all its views side by side, which hold four
channels each. Seeds are rendered anew where the pack is read.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from splatdistill.embedded.corpus.layout import ANGLES, INDEX, Record, angles, read_index, ring_cameras, write_index
from splatdistill.embedded.corpus.primitives import gbuffer
from splatdistill.embedded.corpus.procedural import FAMILIES, RELATIONS, make_object
from splatdistill.embedded.corpus.splits import held_out_instances
from splatdistill.priors.gbuffer import CHANNELS
from splatdistill.utils.rng import key

_GROUPS = ([0, 1, 2, 5], [3, 4, 6, 7])  # albedo and alpha; shading and paint


def write(path: Path, *, index: dict[str, Any], buffers: NDArray[np.uint8], rings: int, rendered: bool = False) -> None:
    """Packs the first `rings` rings of each model [I,H,W,8] uint8; procedural objects of a folder shrink to seeds, or,
    `rendered`, are packed as models are.
    """
    unfinished = path.with_name(path.name + ".part")
    records, first = [], 0
    with zipfile.ZipFile(unfinished, "w") as archive:
        for record in (r for r in read_index(index) if rendered or not r.toy):
            views = min(4 * rings, len(record.azimuth))
            mine = buffers[record.first : record.first + views]
            for number, channels in enumerate(_GROUPS):
                _put(archive, f"{len(records):04d}.{number}.webp", encode(mine[..., channels]))
            kept = {k: getattr(record, k)[:views] for k in ANGLES}
            records.append(Record(**{**record.__dict__, **kept, "first": first}))
            first += views
        toys = {**index["toys"], "rings": min(rings, index["toys"]["rings"])} | ({"number": 0} if rendered else {})
        text = json.dumps(write_index(records, size=index["size"], seed=index["seed"], toys=toys))
        _put(archive, INDEX, text.encode(), zipfile.ZIP_DEFLATED)
    os.replace(unfinished, path)


def read(path: Path, *, processes: int | None = None) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """Index and buffers [I,H,W,8] of a pack, real models first. ValueError, one sentence, for a damaged file."""
    try:
        with zipfile.ZipFile(path) as archive:
            index = json.loads(archive.read(INDEX))
            records = read_index(index)
            names = [[f"{number:04d}.{group}.webp" for group in range(len(_GROUPS))] for number in range(len(records))]
            data = [[archive.read(name) for name in pair] for pair in names]
        with ThreadPoolExecutor(processes) as pool:  # Pillow decodes beside Python
            parts = list(pool.map(partial(_views, size=index["size"]), data))
    except (zipfile.BadZipFile, KeyError, OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no pack of a corpus or is damaged ({error}); copy it again.") from error
    toys, rendered = render_procedural(
        **index["toys"], size=index["size"], first=sum(map(len, parts)), processes=processes
    )
    return write_index([*records, *toys], size=index["size"], seed=index["seed"], toys=index["toys"]), np.concatenate(
        [*parts, rendered]
    )


def _views(data: list[bytes], *, size: int) -> NDArray[np.uint8]:
    """[V,size,size,8] of a model's pictures."""
    groups = [decode(part, size=size) for part in data]
    views = np.empty((*groups[0].shape[:3], CHANNELS), dtype=np.uint8)
    for channels, values in zip(_GROUPS, groups, strict=True):
        views[..., channels] = values
    return views


def render_procedural(
    *, number: int, rings: int, seed: int, size: int, first: int, processes: int | None = None
) -> tuple[list[Record], NDArray[np.uint8]]:
    """`number` objects of each family, six times as many of each relation, and their views [I,size,size,8]."""
    tasks = [(f.name, i) for f in FAMILIES for i in range(number)]
    tasks += [(relation, i) for relation in RELATIONS for i in range(6 * number)]
    held = {h for f in FAMILIES for h in held_out_instances(f"{f.name}/{i}" for i in range(number))}
    render = partial(_render_object, rings=rings, seed=seed, size=size)
    with workers(processes) as pool:
        done = list(pool.map(render, tasks, chunksize=4))
    records = []
    for (family, i), (values, _) in zip(tasks, done, strict=True):
        name = f"{family}/{i}"
        records.append(Record(**values, key=f"toys/{name}", first=first, toy=True, held_out=name in held))
        first += 4 * rings
    empty = np.empty((0, size, size, CHANNELS), dtype=np.uint8)
    return records, np.concatenate([empty, *(views for _, views in done)])


def workers(num: int | None = None) -> Executor:
    """`num` processes, by default one a core. One is a thread of this process, for so few tasks that starting costs."""
    num = num or os.cpu_count() or 1
    # Not forked: a child of a process that has run torch's threads may wait for them for ever.
    return ThreadPoolExecutor(1) if num == 1 else ProcessPoolExecutor(num, mp_context=get_context("spawn"))


def _render_object(
    task: tuple[str, int], *, rings: int, seed: int, size: int
) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    family, number = task
    made = make_object(family, seed=seed, number=number)
    cameras = ring_cameras(rings, size=size, seed=seed, model=key(seed, 0, f"camera/{family}"))
    return {"noun": made.noun, "relation": made.relation, **angles(cameras)}, gbuffer(made.parts, cameras)


def encode(views: NDArray[np.uint8]) -> bytes:
    """Views [V,H,W,4] as one lossless WebP, top to bottom: colours under zero alpha are kept."""
    file = io.BytesIO()
    Image.fromarray(views.reshape(-1, *views.shape[2:]), "RGBA").save(
        file, "webp", lossless=True, exact=True, quality=80, method=4
    )
    return file.getvalue()


def decode(data: bytes, *, size: int) -> NDArray[np.uint8]:
    """The inverse of `encode` for views of size x size pixels."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGBA")).reshape(-1, size, size, 4)


def _put(archive: zipfile.ZipFile, name: str, data: bytes, compression: int = zipfile.ZIP_STORED) -> None:
    """A fixed date, so that the same corpus makes the same bytes."""
    archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), data, compression)
