"""A run as one .html file that opens from disk: page, script, settings, curves and splats, and no request for more."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splatdistill.io.runs import METRICS, SPLATS, Tail

from .rundir import Item

if TYPE_CHECKING:
    from splatdistill.scene.gaussians import Splats

STATIC = Path(__file__).parent / "static"
MAX_RECORDS = 2000  # of the curves
# What only a server has, and where things lie on the machine that they come from.
NOT_CARRIED = {"previews": [], "snapshot": None, "film": False, "poster": None, "path": "", "commands": {}}


def page_of(item: Item, cut: Splats | None = None) -> bytes:
    """The page of an item that has splats, or of a cut of them. Whatever its texts hold, they are data in it."""
    file = item.splats()
    if file is None:
        raise ValueError(f"{item.name} has no splats yet.")
    from splatdistill.io import formats, ply  # loads torch

    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / SPLATS
        ply.write(whole, formats.read(file, item.taken) if cut is None else cut)
        splats = base64.b64encode(gzip.compress(whole.read_bytes(), mtime=0)).decode()
    manifest = item.manifest()
    records = Tail(item.path / METRICS).read()[1] if item.is_run else []
    data = {
        "manifest": {**manifest, **NOT_CARRIED},
        "metrics": records[:: -(-len(records) // MAX_RECORDS) or 1],
        "poster": _data_url(item.picture("poster")),
    }
    stage, script, style = (
        _inline((STATIC / name).read_text(encoding="utf-8")) for name in ("stage.js", "viewer.js", "viewer.css")
    )
    policy = (
        f"default-src 'none'; script-src '{_hash(stage)}' '{_hash(script)}' 'wasm-unsafe-eval'; "
        f"style-src '{_hash(style)}'; "
        "img-src data: blob:; connect-src data: blob:; worker-src blob:; base-uri 'none'; form-action 'none'"
    )
    carried = (
        f'<script type="application/json" id="embedded">{_json(data)}</script>'
        f'<script type="text/plain" id="embedded-splats">{splats}</script>'
    )
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    for old, new in (
        ("<!-- policy -->", f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        ('<link rel="stylesheet" href="viewer.css">', f"<style>{style}</style>{carried}"),
        ('<script defer src="viewer.js"></script>', ""),
        ("</body>", f"<script>{stage}</script><script>{script}</script></body>"),
    ):
        head, found, tail = page.partition(old)
        assert found, f"the page has no {old}"
        page = head + new + tail
    return page.encode()


def _inline(text: str) -> str:
    """Code that can stand inside an element: nothing in it ends that element or opens a comment."""
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--").replace("</style", "<\\/style")


def _json(data: Any) -> str:
    return json.dumps(data).replace("<", "\\u003c")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _data_url(picture: Path | None) -> str | None:
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}" if picture else None
