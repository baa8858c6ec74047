"""No tracked text names a machine's folders or a registry's host. The needles are put together so as not to match."""

import re

import pytest

from tests.packaging.audit import ROOT, tracked

FOLDERS = ["work", "root", "home", "Users", "opt/wheels", "opt/pypi"]
HOSTS = ["pypi" + ".org", "pythonhosted" + ".org", "registry.npmjs" + ".org", "debian" + ".org/debian"]
MAX_BYTES = 2_000_000

PATTERN = re.compile(
    "|".join([rf"(?<![\w.$)}}-])/{name}/" for name in FOLDERS] + [re.escape(host) for host in HOSTS] + ["file:" + "//"])
)


def _texts():
    for path in tracked():
        data = path.read_bytes()
        if len(data) <= MAX_BYTES and b"\0" not in data[:8192]:
            yield path, data.decode("utf-8", errors="replace")


def test_no_tracked_file_names_a_machine_or_a_registry():
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for path, text in _texts()
        for number, line in enumerate(text.splitlines(), 1)
        if PATTERN.search(line)
    ]
    assert found == []


def test_no_record_and_no_config_names_a_temporary_folder():
    """What another machine cannot have: where a benchmark wrote to, or a model was begun from."""
    temporary = "/" + "tmp/"
    found = [str(path.relative_to(ROOT)) for path, text in _texts() if path.suffix == ".json" and temporary in text]
    assert found == []


@pytest.mark.parametrize(
    "text", ["cd /" + "work/x", '"/' + 'root/.venv"', "-f file:" + "///x", "https://pypi" + ".org"]
)
def test_the_pattern_finds_planted_lines(text):
    assert PATTERN.search(text)


@pytest.mark.parametrize("text", ["net/work/x", "$(top)/root/x", "see the profile: nothing"])
def test_the_pattern_lets_ordinary_text_pass(text):
    assert not PATTERN.search(text)
