"""Without the archive there are no guests, and the reason is told in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from guests import matrix, suite
from guests.archive import Archive, _natural
from guests.cache import GuestError
from guests.images import prepare

APT = """#!/bin/sh
case "$*" in
*--print-uris*)
    echo "'http://mirror.invalid/debian-security/dists/bookworm-security/InRelease' a 0"
    echo "'http://mirror.invalid/debian/dists/bookworm/InRelease' b 0" ;;
*update*) echo 'E: Failed to fetch the index: no route to host' >&2; exit 100 ;;
esac
"""


@pytest.fixture(autouse=True)
def no_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for tool in ("apt-get", "apt-cache"):
        path = tmp_path / "bin" / tool
        path.parent.mkdir(exist_ok=True)
        path.write_text(APT)
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("XDPCAP_VM_CACHE", str(tmp_path / "cache"))


def test_an_archive_that_can_not_be_reached_is_an_error_with_its_reason() -> None:
    with pytest.raises(GuestError) as caught:
        Archive(["trixie-backports"])
    assert str(caught.value) == (
        "the archive (trixie-backports): Failed to fetch the index: no route to host"
    )


def test_the_matrix_fails_without_the_archive(capsys: pytest.CaptureFixture[str]) -> None:
    assert matrix.main(["--smoke"]) == 1
    assert "guests: the archive (" in capsys.readouterr().err


def test_a_kernel_that_is_not_in_the_matrix_is_refused_with_those_that_are() -> None:
    with pytest.raises(
        GuestError, match=r"no kernel 4\.19 here; choose among 5\.10, 6\.1, 6\.12, 7\.2"
    ):
        prepare(["4.19"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "usage: tests/vm/run KERNEL NICS"),
        (["7.2"], "usage: tests/vm/run KERNEL NICS"),
        (["4.19", "igb"], "no kernel 4.19 here; choose among 5.10, 6.1, 6.12, 7.2"),
        (["7.2", "e1000"], "no NICs 'e1000'; choose among veth, virtio, "),
        (["7.2", "igb", "tests/lab/test_none.py"], "no tests at tests/lab/test_none.py"),
        (["7.2", "igb", "test_none.py::test_it"], "no tests at test_none.py::test_it"),
        (["7.2", "igb", "--"], "no command after --"),
    ],
)
def test_what_can_not_be_run_is_refused_before_anything_is_fetched(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert suite.main(words) == 2
    assert said in capsys.readouterr().err


def test_versions_are_compared_as_numbers() -> None:
    names = ["linux-image-6.1.0-9-amd64", "linux-image-6.1.0-50-amd64"]
    assert max(names, key=_natural) == names[1]
