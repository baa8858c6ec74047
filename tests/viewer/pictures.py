"""Pictures of the page: every tab, the gallery, the dark theme and a small screen.

python -m tests.viewer.pictures RUNS OUT [INDEX] takes them of a folder of runs, for docs/viewer.md.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.viewer.browser import chromium, open_page, until
from tests.viewer.serving import serving

TABS = ("Train", "Views", "Scene", "Compare", "Export", "Info")


def take(browser: Any, runs: Path, out: Path, *, run: str = "0", other: str = "1") -> list[Path]:
    """Writes OUT/<what>.webp; RUNS holds at least two runs."""
    with serving(runs, home=runs) as served:
        page = open_page(browser, served.url, width=1000, height=900)
        until(page, "[...document.images].every(image => image.complete && image.naturalWidth)")
        made = [_shot(page, out / "gallery.webp")]
        page.context.close()
        for name, options in (
            ("light", {}),
            ("dark", {"color_scheme": "dark"}),
            ("phone", {"width": 390, "height": 800, "has_touch": True}),
        ):
            page = open_page(browser, f"{served.url}#run={run}", **({"width": 1000, "height": 640} | options))
            for tab in TABS if name == "light" else TABS[:1]:
                page.click(f"#tab-{tab}")
                if tab == "Compare":
                    page.select_option("#panel-Compare select", other)
                    until(page, "window.splatdistill.view.other?.count > 0")
                    page.evaluate("window.splatdistill.view.other.settled()")
                page.wait_for_timeout(300)
                made.append(_shot(page, out / (f"{tab.lower()}.webp" if name == "light" else f"{name}.webp")))
                if tab == "Compare":
                    page.select_option("#panel-Compare select", "")
            page.context.close()
    return made


def _shot(page: Any, path: Path) -> Path:
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    assert np.asarray(picture).std() > 5, f"{path.name} is blank"
    picture.save(path, quality=80, method=6)
    return path


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    with chromium() as started:
        for made in take(started, Path(sys.argv[1]), folder):
            print(made, made.stat().st_size)
