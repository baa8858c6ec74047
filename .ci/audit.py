"""Asks the advisory database of the package index, by pip-audit, of known flaws in what the lock and the Makefile pin.

    python .ci/audit.py           `make audit` makes the environment of pip-audit that it runs in

Exit code 0: every package was asked about, and none has a known flaw. 1: some have, and they are listed. 77: the
database did not answer for all of them, and nothing is claimed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOT_RUN = 77  # as automake has it: skipped


def pins() -> list[str]:
    """name==version of everything in the environment of development, torch among it."""
    torch = re.findall(r"^TORCH := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M)
    return torch + re.findall(r"^[\w.-]+==[\w.!]+", (ROOT / "requirements-dev.lock").read_text("utf-8"), flags=re.M)


def verdict(report: str, *, said: str, asked: int) -> tuple[int, str]:
    """Exit code and sentences. report: what pip-audit wrote as JSON, empty where it gave up; said: its complaints."""
    try:
        packages = json.loads(report)["dependencies"]
    except ValueError:
        lines = said.strip().splitlines() or ["pip-audit gave no reason."]
        return NOT_RUN, "Not run, so nothing is known: " + re.sub(r"^[A-Z]+:[\w.]+:", "", lines[-1])
    answered = [package for package in packages if "vulns" in package]
    flaws = [
        f"{package['name']} {package['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'none'}."
        for package in answered
        for flaw in package["vulns"]
    ]
    if flaws:
        return 1, "\n".join(flaws)
    if len(answered) < asked:
        return NOT_RUN, f"Not run for {asked - len(answered)} of {asked} packages, so nothing is known."
    return 0, f"No known flaw in {asked} packages."


def main() -> int:
    wanted = pins()
    with tempfile.TemporaryDirectory(prefix="splatdistill-audit-") as name:
        listed = Path(name) / "pins.txt"
        listed.write_text("\n".join(wanted) + "\n", encoding="utf-8")
        # --strict: it ends at the first package that the database does not know, and would otherwise call that success.
        words = ["--strict", "--format", "json", "--progress-spinner", "off", "--no-deps", "--disable-pip"]
        command = [sys.executable, "-m", "pip_audit", *words, "--requirement", str(listed)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    code, sentences = verdict(done.stdout, said=done.stderr, asked=len(wanted))
    print(sentences)
    return code


if __name__ == "__main__":
    sys.exit(main())
