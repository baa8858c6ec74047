"""The server: what it tells, whom it refuses, and that it finds nothing outside what it was given."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from splatdistill import cli
from splatdistill.io import formats, ply
from splatdistill.io.kinds import FRAMES, READ
from splatdistill.io.runs import Tail
from splatdistill.training.run_log import RunLog
from splatdistill.viewer.security import MAX_BODY
from splatdistill.viewer.streams import MAX_STREAMS
from tests.io.scenes import knot
from tests.packaging.audit import ROOT
from tests.patience import PATIENCE, wait_for
from tests.viewer.serving import CONFIG, Served, events, make_run, serving

SECRET = b"not for the page"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run that holds a link outwards, a running one, and a secret beside them."""
    out = tmp_path_factory.mktemp("out")
    (out / "secret.txt").write_bytes(SECRET)
    make_run(out / "runs" / "done", knot(200))
    make_run(out / "runs" / "going", None, done=False)
    (out / "runs" / "done" / "turntable.mp4").symlink_to(out / "secret.txt")
    return out / "runs"


@pytest.fixture(scope="module")
def served(folder: Path):
    with serving(folder) as server:
        yield server


def ids(served: Served) -> dict[str, str]:
    return {card["name"]: card["id"] for card in served.json("/api/runs")["runs"]}


def test_runs_are_listed_and_told(served: Served) -> None:
    listed = served.json("/api/runs")
    assert listed["token"] == served.token
    cards = {card["name"]: card for card in listed["runs"]}
    assert (cards["done"]["status"], cards["done"]["has_splats"], cards["done"]["step"]) == ("done", True, 100)
    assert (cards["going"]["status"], cards["going"]["has_splats"]) == ("running", False)
    about = served.json(f"/api/runs/{cards['done']['id']}")
    assert (about["prompt"], about["method"], about["previews"]) == ("a knot of many colours", "sds", [20, 40])
    assert about["summary"]["network_share"] == 0.9 and "prompt: a knot" in about["settings"]
    assert about["camera"]["fovy"] == pytest.approx(37.5)


def test_splats_come_as_ply_whatever_the_file(tmp_path: Path) -> None:
    splats = knot(50)
    for kind in set(FRAMES) & set(READ):
        formats.write(tmp_path / f"a.{kind}", splats)
    with serving(*sorted(tmp_path.iterdir())) as served:
        for card in served.json("/api/runs")["runs"]:
            status, _, body = served.ask(f"/api/runs/{card['id']}/splats")
            (tmp_path / "back.ply").write_bytes(body)
            back = ply.read(tmp_path / "back.ply")
            assert status == 200 and len(back) == 50
            far = (back.means[:, None] - splats.means[None]).norm(dim=-1).min(0).values
            # Half of the widest step, that of a box of .compressed.ply, on each axis.
            step = (splats.means.amax(0) - splats.means.amin(0)).max() / 1023
            assert far.max() <= 3**0.5 / 2 * step, card["name"]


def test_pictures_and_exports(served: Served, tmp_path: Path) -> None:
    run = ids(served)["done"]
    assert served.ask(f"/api/runs/{run}/picture/front?step=20")[2][:2] == b"\xff\xd8"
    assert served.ask(f"/api/runs/{run}/picture/poster")[2][:4] == b"\x89PNG"
    for kind in ("ply", "compressed.ply", "splat", "spz", "sog", "glb"):
        status, headers, body = served.ask(f"/api/runs/{run}/export/{kind}")
        assert status == 200 and headers["content-disposition"] == f'attachment; filename="done.{kind}"'
        (tmp_path / f"a.{kind}").write_bytes(body)
        assert len(formats.read(tmp_path / f"a.{kind}")) == 200
    assert served.ask(f"/api/runs/{run}/export/png")[2][:4] == b"\x89PNG"
    assert served.ask(f"/api/runs/{ids(served)['going']}/export/ply")[0] == 404


def test_a_link_out_of_the_run_is_not_followed(served: Served) -> None:
    status, _, body = served.ask(f"/api/runs/{ids(served)['done']}/picture/film")
    assert status == 404 and SECRET not in body


def test_every_answer_carries_the_policy(served: Served) -> None:
    for path in ("/", "/viewer.js", "/stage.js", "/api/runs", "/nothing"):
        headers = {name.lower(): value for name, value in served.ask(path)[1].items()}
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers
        assert headers["cache-control"] == ("no-store" if path.startswith("/api") else "no-cache")


HOST = "Host: 127.0.0.1:{port}"
POST = f"POST /api/runs/0/control HTTP/1.1|{HOST}|Content-Length: 16"
ORIGIN, TOKEN, JSON = (
    "Origin: http://127.0.0.1:{port}",
    "X-Splatdistill-Token: {token}",
    "Content-Type: application/json",
)
ASK = '||{{"ask": "save"}}'
HOSTILE = [
    "GET / HTTP/1.1|Host: evil.example",
    "GET / HTTP/1.1|Host: evil.example:{port}",
    "GET / HTTP/1.1|Host: 127.0.0.1.evil.example:{port}",
    "GET / HTTP/1.1|Host: ",
    "GET / HTTP/1.1",
    f"GET / HTTP/1.1|{HOST}|Host: evil.example",
    f"GET /../secret.txt HTTP/1.1|{HOST}",
    f"GET /..%2fsecret.txt HTTP/1.1|{HOST}",
    f"GET /%2e%2e/secret.txt HTTP/1.1|{HOST}",
    f"GET //etc/passwd HTTP/1.1|{HOST}",
    f"GET /%2fetc/passwd HTTP/1.1|{HOST}",
    f"GET /static/../server.py HTTP/1.1|{HOST}",
    f"GET /server.py HTTP/1.1|{HOST}",
    f"GET /api/runs/../../secret.txt HTTP/1.1|{HOST}",
    f"GET /api/runs/..%2f..%2fsecret.txt HTTP/1.1|{HOST}",
    f"GET /api/runs/0/picture/..%2f..%2fsecret HTTP/1.1|{HOST}",
    f"GET /api/runs/0/picture/front?step=../../secret HTTP/1.1|{HOST}",
    f"GET /api/runs/0/picture/config.yaml HTTP/1.1|{HOST}",
    f"GET /api/runs/0/export/..%2fply HTTP/1.1|{HOST}",
    f"GET /api/runs/0/snapshot?after=x HTTP/1.1|{HOST}",
    f"GET /api/runs/99 HTTP/1.1|{HOST}",
    f"GET /api/runs/0%00 HTTP/1.1|{HOST}",
    f"GET /api/runs HTTP/1.1|{HOST}|Sec-Fetch-Site: cross-site",
    f"DELETE /api/runs/0 HTTP/1.1|{HOST}",
    f"PUT / HTTP/1.1|{HOST}|Content-Length: 0",
    f"{POST}{ASK}",
    f"{POST}|{ORIGIN}|{JSON}{ASK}",
    f"{POST}|{ORIGIN}|{JSON}|X-Splatdistill-Token: wrong{ASK}",
    f"{POST}|Origin: http://evil.example|{JSON}|{TOKEN}{ASK}",
    f"{POST}|Origin: null|{JSON}|{TOKEN}{ASK}",
    f"{POST}|{ORIGIN}|Content-Type: text/plain|{TOKEN}{ASK}",
    f'POST /api/runs/0/control HTTP/1.1|{HOST}|{ORIGIN}|{JSON}|{TOKEN}|Content-Length: 15||{{{{"ask": "exec"}}}}',
    f"POST /api/runs/0/control HTTP/1.1|{HOST}|{ORIGIN}|{JSON}|{TOKEN}|Content-Length: 2||[]",
    f"POST /api/runs HTTP/1.1|{HOST}|{ORIGIN}|{JSON}|{TOKEN}|Content-Length: 2||{{{{}}}}",
    "nonsense",
]


@pytest.mark.parametrize("request_", HOSTILE)
def test_hostile_requests_are_refused(served: Served, folder: Path, request_: str) -> None:
    text = request_.format(port=served.port, token=served.token)
    head, _, body = text.partition("||")
    lines = head.replace("|", "\r\n") + "\r\nConnection: close\r\n\r\n" + body
    answer = served.raw(lines.encode("latin1"))
    status = int(answer.split(b" ", 2)[1])
    assert status in (400, 403, 404), answer[:300]
    assert b"Traceback" not in answer and SECRET not in answer and b"root:" not in answer
    assert not any((run / "control" / "save").exists() for run in folder.iterdir())


def test_a_long_body_is_cut_off(served: Served) -> None:
    status, body = served.post("/api/runs/0/control", {"ask": "x" * MAX_BODY})
    assert status == 400 and b"longer than" in body


def test_a_training_is_asked_through_files(tmp_path: Path) -> None:
    make_run(tmp_path / "run", None, done=False)
    with serving(tmp_path / "run") as served:
        assert served.post("/api/runs/0/control", {"ask": "pause"}) == (200, b'{"asked":["pause"]}')
        assert (tmp_path / "run" / "control" / "pause").exists()
        assert served.post("/api/runs/0/control", {"ask": "resume"}) == (200, b'{"asked":[]}')
        assert not (tmp_path / "run" / "control" / "pause").exists()


def test_events_tell_what_is_new_and_go_on_after_the_last_one(tmp_path: Path) -> None:
    log = make_run(tmp_path / "run", None, done=False)
    with serving(tmp_path / "run") as served:
        with events(served) as stream:
            found = dict([next(stream), next(stream)])
            assert [record["step"] for record in found["metrics"]] == [10, 20, 30, 40]
            assert (found["state"]["status"], found["state"]["previews"]) == ("running", [20, 40])
            assert (tmp_path / "run" / "control" / "watch").exists()
            log.metrics(50, grad_norm=1.0)
            kind, (record,) = next(stream)
            assert (kind, record["step"], record["grad_norm"]) == ("metrics", 50, 1.0) and record["seconds"] >= 0
        with events(served, last=40) as stream:
            kind, records = next(stream)
            assert (kind, [record["step"] for record in records]) == ("metrics", [50])


def test_a_log_that_begins_anew_is_told(tmp_path: Path) -> None:
    make_run(tmp_path / "run", None, done=False)
    with serving(tmp_path / "run") as served, events(served) as stream:
        next(stream), next(stream)
        log = RunLog(tmp_path / "run", CONFIG, command="", start_step=20)
        log.metrics(25, grad_norm=1.0)
        kinds = []
        while "metrics" not in [kind for kind, _ in kinds]:
            kinds.append(next(stream))
        assert "reset" in [kind for kind, _ in kinds]
        assert [record["step"] for record in kinds[-1][1]][:2] == [10, 20]


def test_a_tail_waits_for_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path)
    assert tail.read() == (False, [])
    path.write_text('{"step": 1}\n{"step": 2')
    assert tail.read() == (False, [{"step": 1}])
    assert tail.read() == (False, [])
    path.write_text('{"step": 1}\n{"step": 2}\nnonsense\n[1]\n{"step": 3}\n')
    assert tail.read() == (False, [{"step": 2}, {"step": 3}])
    path.write_text('{"step": 1}\n')
    assert tail.read() == (True, [{"step": 1}])


def test_snapshots_are_pulled_the_newest_only(tmp_path: Path) -> None:
    make_run(tmp_path / "run", None, done=False)
    with serving(tmp_path / "run") as served:
        path = "/api/runs/0/snapshot?after="
        assert served.ask(f"{path}-1")[0] == 204
        for step in (5, 7):
            (tmp_path / "run" / "snapshots" / f"{step:06d}.splat").write_bytes(bytes([step]) * 32)
        status, headers, body = served.ask(f"{path}-1")
        assert (status, headers["x-step"], body) == (200, "7", b"\x07" * 32)
        assert served.ask(f"{path}7")[0] == 204


def test_pages_are_limited(tmp_path: Path) -> None:
    make_run(tmp_path / "run", None, done=False)
    with serving(tmp_path / "run") as served:
        open_ = [events(served) for _ in range(MAX_STREAMS)]
        for one in open_:
            next(one.__enter__())
        assert served.ask("/api/runs/0/events")[0] == 503
        for one in open_:
            one.__exit__(None, None, None)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                with events(served) as stream:
                    next(stream)
                break
            except AssertionError:
                time.sleep(0.2)
        else:
            raise AssertionError("closed pages still count")


def test_another_machine_needs_the_token_to_read(tmp_path: Path) -> None:
    make_run(tmp_path / "run", None)
    with serving(tmp_path / "run", private=True) as served:
        assert served.ask("/api/runs")[0] == 403
        assert served.ask("/")[0] == 403
        assert served.ask("/?token=wrong")[0] == 403
        status, headers, _ = served.ask(f"/?token={served.token}")
        cookie = headers["set-cookie"].partition(";")[0]
        assert status == 303 and "HttpOnly" in headers["set-cookie"]
        assert served.ask("/api/runs", headers={"cookie": cookie})[0] == 200
        assert served.ask("/api/runs", headers={"cookie": "splatdistill=x"})[0] == 403


def test_what_cannot_be_shown_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.obj").write_text("v 0 0 0\n")
    for arguments, sentence in (
        ([str(tmp_path / "none")], "There is no run folder or file of splats called"),
        ([str(tmp_path / "a.obj")], "is a mesh, not splats"),
        ([str(tmp_path), "--port", "70000"], "port must be between 0 and 65535; it is 70000."),
    ):
        assert cli.main(["view", *arguments, "--no-browser"]) == cli.USAGE
        assert sentence in capsys.readouterr().err


def test_view_prints_its_address_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    make_run(tmp_path / "run", knot(20))
    command = [sys.executable, "-m", "splatdistill", "view", str(tmp_path / "run"), "--port", "0", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")
        assert json.load(urlopen(f"{address}api/runs"))["runs"][0]["name"] == "run"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == ""


def test_the_server_beside_a_training_waits_for_the_run_and_ends_with_its_parent(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, time\n"
        "from splatdistill.viewer import beside\n"
        "with beside(pathlib.Path(sys.argv[1])) as child:\n"
        "    print(child.pid, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        child = int(process.stdout.readline())
        make_run(tmp_path / "run", knot(20))
        address = process.stdout.readline().strip()
        assert json.load(urlopen(f"{address}api/runs"))["runs"]
        process.kill()
        process.wait(PATIENCE)
    wait_for(lambda: not Path(f"/proc/{child}").exists(), what="the end of the server")


def test_the_wheel_serves_without_node(tmp_path: Path) -> None:
    """What is installed is enough: a copy of the package folders as the wheel lays them out, and no npm on the PATH."""
    site = tmp_path / "site" / "splatdistill"
    shutil.copytree(ROOT / "splatdistill", site, ignore=shutil.ignore_patterns("weights", "__pycache__"))
    shutil.copytree(ROOT / "viewer", site / "viewer", ignore=shutil.ignore_patterns("web", "__pycache__"))
    make_run(tmp_path / "run", knot(20))
    command = [sys.executable, "-m", "splatdistill", "view", str(tmp_path / "run"), "--port", "0", "--no-browser"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin-without-node"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment) as process:
        address = process.stdout.readline().strip()
        assert b"<title>splatdistill</title>" in urlopen(address).read()
        assert len(urlopen(f"{address}stage.js").read()) > 1_000_000
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0


def test_a_training_with_a_page_shows_itself_and_stops_when_asked(tmp_path: Path) -> None:
    words = ["train", "--config", "smoke", "--steps", "100000", "--size", "32", "--splats.num-init", "50", "--view"]
    command = [
        sys.executable,
        "-m",
        "splatdistill",
        *words,
        "--prompt",
        "a red ball",
        "--out",
        str(tmp_path),
        "--name",
        "run",
    ]
    environment = {**os.environ, "BROWSER": "true"}  # the program that does nothing
    # Ctrl-C reaches all processes of a terminal: the page's is a child, which ends with its parent.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    ) as process:
        port = int(process.stdout.readline().strip().rstrip("/").rpartition(":")[2])
        served = Served(port, "", None)
        served.token = served.json("/api/runs")["token"]
        with events(served) as stream:
            while True:
                kind, data = next(stream)
                if kind == "state" and data["snapshot"] is not None:
                    break
            status, headers, body = served.ask("/api/runs/0/snapshot?after=-1")
            assert status == 200 and len(body) >= 32 * 50 and int(headers["x-step"]) > 0
            assert served.post("/api/runs/0/control", {"ask": "stop"})[0] == 200
            while data["status"] != "stopped":
                kind, found = next(stream)
                data = found if kind == "state" else data
            assert served.json("/api/runs/0")["step"] == data["step"], "the page is gone, or tells another step"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == cli.INTERRUPTED
        said = process.stderr.read()
        assert f"splatdistill: stopped after step {data['step']};" in said and "The page stays until Ctrl-C." in said
    assert (tmp_path / "run" / "checkpoints" / "latest").is_file()
