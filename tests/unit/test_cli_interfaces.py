"""`xdpcap interfaces`: what there is to record from, for people and for programs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from xdpcap.cli import main
from xdpcap.errors import XdpcapError
from xdpcap.net.link import Link


def link(name: str, index: int, **fields: Any) -> Link:
    plain: dict[str, Any] = {
        "mac": "02:00:00:00:00:01",
        "mtu": 1500,
        "up": True,
        "carrier": True,
        "kind": "",
        "driver": "mlx5_core",
        "speed_mbps": 25000,
        "alias": "",
        "promiscuity": 0,
        "xdp_prog_id": None,
        "xdp_mode": None,
    }
    return Link(name=name, index=index, **{**plain, **fields})


LINKS = [
    link("eth0", 2),
    link("eth1", 3, xdp_mode="native", xdp_prog_id=71, carrier=False, speed_mbps=2500),
    link("v0", 4, driver="veth", kind="veth", up=False, carrier=False, speed_mbps=None, mtu=9000),
]


@pytest.fixture
def links(monkeypatch: pytest.MonkeyPatch) -> list[Link]:
    """The links that the machine has, and two queues for each."""
    there = list(LINKS)
    monkeypatch.setattr("xdpcap.net.link.list_links", lambda: there)
    monkeypatch.setattr("xdpcap.net.queues.rx_queue_count", lambda name: 2)
    return there


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["interfaces", *argv])
    assert stop.value.code == 0
    output = capsys.readouterr()
    assert output.err == ""
    return output.out


def words(line: str) -> str:
    """A line of a table without its alignment."""
    return " ".join(line.split())


def test_the_table_tells_driver_queues_state_and_program(
    links: list[Link], capsys: pytest.CaptureFixture[str]
) -> None:
    head, _, eth0, eth1, v0 = run(capsys).splitlines()
    assert words(head) == "interface driver queues MTU speed state XDP program"
    assert words(eth0) == "eth0 mlx5_core 2 1500 25G up"
    assert words(eth1) == "eth1 mlx5_core 2 1500 2.5G no carrier native, id 71"
    assert words(v0) == "v0 veth 2 9000 down"


def test_an_alias_is_a_column_only_where_there_is_one(
    links: list[Link], capsys: pytest.CaptureFixture[str]
) -> None:
    links.append(link("eth9", 9, alias="uplink to the lab, port 7"))
    lines = run(capsys).splitlines()
    assert lines[0].split()[-1] == "alias"
    assert lines[-1].endswith("uplink to the lab, port 7")


def test_what_goes_into_a_pipe_is_whole_and_without_colours(
    links: list[Link], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    links.append(link("eth9", 9, alias="x" * 200, driver="d" * 60))
    text = run(capsys)
    assert "x" * 200 in text
    assert "d" * 60 in text
    assert "\x1b" not in text


def test_json_is_a_list_with_numbers_and_nulls(
    links: list[Link], capsys: pytest.CaptureFixture[str]
) -> None:
    eth0, eth1, v0 = json.loads(run(capsys, "--json"))
    assert eth0 == {
        "name": "eth0",
        "driver": "mlx5_core",
        "queue_count": 2,
        "mtu": 1500,
        "speed_mbps": 25000,
        "up": True,
        "carrier": True,
        "mac": "02:00:00:00:00:01",
        "xdp_mode": None,
        "xdp_prog_id": None,
        "alias": "",
    }
    assert (eth1["xdp_mode"], eth1["xdp_prog_id"]) == ("native", 71)
    assert v0["speed_mbps"] is None


def test_an_interface_that_goes_while_it_is_looked_at_is_left_out(
    links: list[Link], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def rx_queue_count(name: str) -> int:
        if name == "eth1":
            raise XdpcapError("eth1 is gone")
        return 2

    monkeypatch.setattr("xdpcap.net.queues.rx_queue_count", rx_queue_count)
    assert [entry["name"] for entry in json.loads(run(capsys, "--json"))] == ["eth0", "v0"]


def test_this_machine_has_a_loopback_interface(capsys: pytest.CaptureFixture[str]) -> None:
    found = {entry["name"]: entry for entry in json.loads(run(capsys, "--json"))}
    assert found["lo"]["queue_count"] >= 1
    assert found["lo"]["mtu"] > 0


def test_a_namespace_that_is_not_there_is_a_usage_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["interfaces", "--netns", "no-such-namespace"])
    assert stop.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("xdpcap: no network namespace 'no-such-namespace'")
    assert output.err.count("\n") == 1
