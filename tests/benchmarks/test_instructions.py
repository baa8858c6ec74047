"""The instruction gate: what it reads from callgrind and when it fails."""

from __future__ import annotations

from collections import Counter

import instructions

DUMP = """
desc: Trigger: Client Request: rasterize forward
events: Ir

ob=/lib/libc.so.6
fl=???
fn=memcpy
0 1000

ob=/somewhere/splatdistill/_C.abi3.so
fl=???
fn=sd::cpu::blend(int)
0 10
+3 20
cfn=memcpy
cob=/lib/libc.so.6
calls=4 0
* 4000
-2 5
fn=sd::cpu::project(int)
0 7

ob=/lib/libtorch.so
fn=at::mul
0 500
"""


def test_only_the_extension_counts_and_callees_do_not():
    title, functions = instructions.parse(DUMP.splitlines())
    assert title == "rasterize forward"
    assert functions == {"sd::cpu::blend(int)": 35, "sd::cpu::project(int)": 7}


def test_growth_fails_and_names_the_functions():
    counts = {"a": Counter({"hot": 1000, "cold": 60}), "b": Counter({"f": 80})}
    report, good = instructions.compare(counts, {"a": 1000, "b": 100})
    assert not good
    text = "\n".join(report)
    assert "FAILED" in text and "hot" in text and "better" in text


def test_small_changes_and_operators_done_in_torch_pass():
    report, good = instructions.compare({"a": Counter({"f": 1040}), "torch": Counter()}, {"a": 1000, "torch": 0})
    assert good and len(report) == 2


def test_an_operator_that_only_one_side_knows_fails():
    assert not instructions.compare({"a": Counter({"f": 1})}, {})[1]
    assert not instructions.compare({}, {"a": 1})[1]


def test_another_compiler_is_no_comparison(monkeypatch):
    monkeypatch.setattr(instructions.shutil, "which", lambda name: name)
    levels = ["x86_64_v4", "x86_64_v3"]
    assert instructions.why_not(levels, "c++ 12", "c++ 12") is None
    assert instructions.why_not(levels, "c++ 12", None) is None
    assert "c++ 13" in instructions.why_not(levels, "c++ 13", "c++ 12")
    assert "level" in instructions.why_not(["generic"], "c++ 12", "c++ 12")
    monkeypatch.setattr(instructions.shutil, "which", lambda name: None)
    assert "valgrind" in instructions.why_not(levels, "c++ 12", "c++ 12")
