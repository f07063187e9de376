"""The mapping language, from its corpus: `cases/<directive>.json` on `payload.json`; a case without a result leads nowhere."""

from __future__ import annotations

import contextlib
import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segment_do.errors import InvalidEvent, InvalidRequest
from segment_do.mapping import compile_mapping
from segment_do.mapping.mapping import DIRECTIVES
from segment_do.mapping.paths import steps_of

HERE = Path(__file__).parent
PAYLOAD = json.loads((HERE / "payload.json").read_text())
CASES = {
    f"{file.stem}: {case['case']}": case
    for file in sorted((HERE / "cases").glob("*.json"))
    for case in json.loads(file.read_text())
}
REFUSED = json.loads((HERE / "refused.json").read_text())


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_mapping_makes_what_its_case_says(case: dict[str, Any]) -> None:
    """The result, types included, and the payload as it was."""
    payload = copy.deepcopy(PAYLOAD)
    wrapped = compile_mapping({"it": case["mapping"]}).apply(payload)
    expected = {"it": case["result"]} if "result" in case else {}
    assert json.dumps(wrapped) == json.dumps(expected)
    assert payload == PAYLOAD


def test_each_directive_has_cases() -> None:
    """A directive without a case is not shown to work."""
    assert {f"@{file.stem}" for file in (HERE / "cases").glob("*.json")} - {"@values"} == set(DIRECTIVES)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case["case"])
def test_a_wrong_mapping_is_refused_with_its_place(case: dict[str, Any]) -> None:
    """Before it is used, all that is wrong at once."""
    with pytest.raises(InvalidRequest) as caught:
        compile_mapping(case["mapping"])
    assert caught.value.code == "invalid_mapping"
    assert case["message"] in caught.value.message


def test_nothing_at_the_root_is_none() -> None:
    """A mapping that leads nowhere."""
    assert compile_mapping({"@path": "$.nope"}).apply(PAYLOAD) is None


@pytest.mark.parametrize(
    "mapping",
    [
        {"@path": {"@path": "$.traits"}},
        {"@template": {"@path": "$.n"}},
        {"@liquid": "{{ 1 | divided_by: n }}"},
    ],
)
def test_what_fails_on_a_payload_is_told(mapping: Any) -> None:
    """With a sentence, and without the payload's values."""
    with pytest.raises(InvalidEvent) as caught:
        compile_mapping(mapping).apply(PAYLOAD)
    assert caught.value.code == "mapping_failed"
    assert "Ada" not in caught.value.message


@pytest.mark.parametrize(
    "mapping",
    [
        [{"@path": "$"}] * 4_000,
        [{"@template": "{{text}}" * 100}] * 10,
        {"@transform": {"apply": {"a": [{"@path": "$"}] * 4_000}, "mapping": {"@path": "$"}}},
        {"@replace": {"value": {"@path": "$.text"}, "pattern": "x", "replacement": "y" * 1_000}},
    ],
    ids=["copies", "templates", "transforms", "replacements"],
)
def test_what_grows_beyond_all_measure_is_stopped(mapping: Any) -> None:
    """A payload of 10 KB and a small mapping that would make tens of megabytes."""
    with pytest.raises(InvalidEvent) as caught:
        compile_mapping(mapping).apply({"text": "x" * 10_000})
    assert caught.value.code == "mapping_too_large"


def test_a_mapping_has_bounds() -> None:
    """Too deep, too many values: refused, not a crash."""
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    for mapping in (deep, [1] * 5_000):
        with pytest.raises(InvalidRequest):
            compile_mapping(mapping)


def test_a_payload_nested_too_deeply_is_told() -> None:
    """Where the parser let it through."""
    deep: Any = 1
    for _ in range(5_000):
        deep = [deep]
    with pytest.raises(InvalidEvent):
        compile_mapping({"@flatten": {"value": {"@path": "$"}, "separator": "."}}).apply({"a": deep})


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("$", ()),
        ("$.", ()),
        ("", ()),
        (".", ()),
        ("$.a.b", ("a", "b")),
        ("a[0][1]", ("a", "0", "1")),
        ("a['b c'].d", ("a", "b c", "d")),
        ('a["b"]', ("a", "b")),
        ("a[b]", ("a[b]",)),
        ("$[0].a", ("0", "a")),
        ("$device.x", ("$device", "x")),
    ],
)
def test_paths_are_cut_as_segment_cuts_them(text: str, steps: tuple[str, ...]) -> None:
    """Dots, brackets with an index or a quoted name; other brackets belong to the name."""
    assert steps_of(text) == steps


def test_the_documentation_is_true() -> None:
    """Each example of docs/mapping.md, a payload, a mapping and a result in one block."""
    text = (Path(__file__).parents[3] / "docs" / "mapping.md").read_text()
    examples = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]
    assert len(examples) >= 3
    for example in examples:
        assert compile_mapping(example["mapping"]).apply(example["payload"]) == example["result"]
    assert all(f"`{directive}`" in text for directive in DIRECTIVES)


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@given(_JSON, st.sampled_from(sorted(CASES)))
def test_any_payload_is_mapped_or_told(payload: Any, case: str) -> None:
    """No payload makes a mapping of the corpus raise anything but its own error."""
    mapping = compile_mapping(CASES[case]["mapping"])
    with contextlib.suppress(InvalidEvent):
        json.dumps(mapping.apply(payload))


@given(_JSON)
def test_any_mapping_is_compiled_or_refused(mapping: Any) -> None:
    """No mapping makes the compiler raise anything but its refusal; one without directives stands for itself."""
    try:
        made = compile_mapping(mapping)
    except InvalidRequest:
        return
    assert json.dumps(made.apply({})) == json.dumps(mapping)
