"""The README's table of guests is the one that the stored results make."""

from __future__ import annotations

import json

from guests.table import BEGIN, END, README, RESULTS, markdown, with_table

FACTS = {
    "attach": "native",
    "record": "zero-copy",
    "replay": "copy",
    "multi_buffer": False,
    "clock": "CLOCK_TAI",
}


def test_the_readme_has_the_table_of_the_stored_results() -> None:
    results = json.loads(RESULTS.read_text())
    assert with_table(README.read_text(), results) == README.read_text()
    assert len(results) > 10


def test_newer_kernels_come_first_and_zero_copy_stands_out() -> None:
    text = markdown({"6.1 igb": FACTS, "6.12 igb": FACTS, "7.2 virtio": FACTS})
    rows = text.splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == ["7.2", "6.12", "6.1"]
    assert rows[1] == "| 6.12 | igb | native | **zero-copy** | copy | no | CLOCK_TAI |"


def test_the_rest_of_the_readme_is_left_as_it_is() -> None:
    changed = with_table(f"before\n{BEGIN}\nold\n{END}\nafter", {"6.1 igb": FACTS})
    assert changed.startswith(f"before\n{BEGIN}\n| kernel |")
    assert changed.endswith(f"\n{END}\nafter")
