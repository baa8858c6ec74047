"""What the page costs in a real Chromium that draws in software: a burst of snapshots, an idle page, many updates.

`python benchmarks/viewer_page.py` prints and writes viewer_page.json. burst: 50 snapshots in about a second to two
pages, one of them with a tenth of the processor; seconds from the last one until each page has drawn it, snapshots
drawn, and growth of the server's memory. idle: processor time of the browser while nothing changes, in percent of one
core. updates: growth of the page's heap over them, and what three.js holds on the graphics card before and after.
first_paint: seconds until the first contentful paint with a sixth of the processor, of the page of a run. turning:
frames in a second of 100,000 splats that turn on a canvas of 640 x 480, whole and as drafts.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import commit, machine

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from splatdistill.io import formats
from tests.io.scenes import knot
from tests.patience import PATIENCE
from tests.viewer.browser import CHROMIUM, chromium, open_page, until
from tests.viewer.serving import make_run, serving

BURST, SPACING = 50, 0.02  # snapshots, seconds
UPDATE = """async (count) => {
    const stage = window.splatdistill.view.stage, { bytes, kind, up } = stage.last;
    for (let i = 0; i < count; i++) await stage.show(bytes, kind, up);
    return stage.held;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splats", type=int, default=5000)
    parser.add_argument("--updates", type=int, default=1000)
    parser.add_argument("--idle", type=float, default=10.0, help="seconds")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/viewer_page.json"))
    args = parser.parse_args()
    if CHROMIUM is None:
        raise SystemExit("SKIPPED: there is no chromium on the PATH.")
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        result = {
            "command": f"python benchmarks/viewer_page.py --splats {args.splats} --updates {args.updates}",
            "commit": commit(),
            "machine": machine(),
            "browser": browser.version,
            "burst": burst(browser, Path(folder) / "run", num_splats=args.splats),
            "first_paint": first_paint(browser, Path(folder) / "run"),
            "turning": turning(browser, Path(folder) / "many.ply"),
            **still(browser, Path(folder) / "knot.ply", updates=args.updates, seconds=args.idle),
        }
    print(json.dumps(result, indent=1))
    args.json.write_text(json.dumps(result, indent=1) + "\n")


def burst(browser: Any, folder: Path, *, num_splats: int) -> dict[str, Any]:
    make_run(folder, None, done=False)
    snapshots = folder / "snapshots"
    data = formats.encode(knot(num_splats), "splat")

    def put(step: int) -> None:
        (snapshots / ".new").write_bytes(data)
        (snapshots / ".new").replace(snapshots / f"{step:06d}.splat")
        (snapshots / f"{step - 1:06d}.splat").unlink(missing_ok=True)

    with serving(folder) as served:
        pages = {name: open_page(browser, served.url, width=500, height=300) for name in ("page", "throttled_page")}
        slow = pages["throttled_page"]
        slow.context.new_cdp_session(slow).send("Emulation.setCPUThrottlingRate", {"rate": 10})
        put(41)
        for page in pages.values():
            until(page, "window.splatdistill.shown.at(-1) === 41")
        memory = resident_mb()
        for step in range(42, 42 + BURST):
            put(step)
            time.sleep(SPACING)
        end, out = time.monotonic(), {}
        for name, page in pages.items():
            until(page, f"window.splatdistill.shown.at(-1) === {41 + BURST}")
            out[f"{name}_last_shown_s"] = round(time.monotonic() - end, 2)
            out[f"{name}_drawn"] = page.evaluate("window.splatdistill.shown.length") - 1
            page.context.close()
        return {"num_splats": num_splats, **out, "server_growth_mb": round(resident_mb() - memory, 1)}


def first_paint(browser: Any, folder: Path) -> dict[str, Any]:
    with serving(folder) as served:
        page = browser.new_context(viewport={"width": 900, "height": 600}).new_page()
        page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": 6})
        page.goto(served.url, wait_until="commit")
        entry = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
        until(page, entry)
        seconds = round(page.evaluate(entry) / 1e3, 3)
        page.context.close()
    return {"slower_by": 6, "seconds": seconds}


def turning(browser: Any, path: Path, *, num_splats: int = 100_000) -> dict[str, Any]:
    """Both rates in one page: first without drafts, as every frame was drawn before, then with them."""
    splats = knot(num_splats)
    splats.scales.sub_(0.5 * math.log(num_splats / 3000))  # as much paint as 3,000 splats of that scene
    formats.write(path, splats)
    with serving(path) as served:
        page = browser.new_context(viewport={"width": 640 + 390, "height": 480 + 57}).new_page()  # panel and tools
        page.set_default_timeout(1e3 * PATIENCE)
        page.goto(served.url)
        until(page, "window.splatdistill?.ready")
        rates = {}
        for name, drafts, first, counted in (("whole", "false", 1, 3), ("drafts", "true", 8, 60)):
            page.evaluate(f"{{ const s = window.splatdistill.view.stage; s.drafts.enabled = {drafts}; s.turn(true); }}")
            start = page.evaluate("window.splatdistill.frameId")
            until(page, f"window.splatdistill.frameId >= {start + first}")  # the exchange of both is over
            began, before = time.monotonic(), page.evaluate("window.splatdistill.frameId")
            until(page, f"window.splatdistill.frameId >= {before + counted}")
            frames = page.evaluate("window.splatdistill.frameId") - before
            rates[name] = round(frames / (time.monotonic() - began), 3)
            page.evaluate("window.splatdistill.view.stage.turn(false)")
            print(name, rates[name], flush=True)
        page.evaluate("window.splatdistill.view.stage.settled()")
        sharp = page.evaluate("window.splatdistill.view.stage.canvas.width") == 640
        page.context.close()
    ratio = round(rates["drafts"] / rates["whole"], 1)
    return {"num_splats": num_splats, "frames_per_second": rates, "ratio": ratio, "sharp_at_rest": sharp}


def still(browser: Any, path: Path, *, updates: int, seconds: float) -> dict[str, Any]:
    formats.write(path, knot(100))
    with serving(path) as served:
        page = open_page(browser, served.url, width=500, height=300)
        page.evaluate("window.splatdistill.view.stage.settled()")
        page.wait_for_timeout(2000)
        frames, spent = page.evaluate("window.splatdistill.frameId"), browser_seconds()
        time.sleep(seconds)
        idle = {
            "seconds": seconds,
            "percent_of_a_core": round(100 * (browser_seconds() - spent) / seconds, 2),
            "frames": page.evaluate("window.splatdistill.frameId") - frames,
        }
        session = page.context.new_cdp_session(page)
        heaps, held = [], []
        for count in (20, updates):
            held.append(page.evaluate(UPDATE, count))
            session.send("HeapProfiler.collectGarbage")
            heaps.append(page.evaluate("performance.memory.usedJSHeapSize"))
        page.context.close()
    growth = round((heaps[1] - heaps[0]) / 1e6, 2)
    return {"idle": idle, "updates": {"number": updates, "heap_growth_mb": growth, "held": held}}


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def browser_seconds() -> float:
    """Processor time of all processes of the browser so far."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, fields = stat.read_text().rsplit(")", 1)
        except OSError:  # it has just ended
            continue
        if "chrom" in name:
            ticks += sum(int(x) for x in fields.split()[11:13])
    return ticks / 100


if __name__ == "__main__":
    main()
