"""What came of each kind of NIC is read from pytest's own report of the whole guest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from guests.rows import rows_of

CONFTEST = """
import pytest

@pytest.fixture(scope="session", params=["igb", "virtio"])
def nics(request):
    return request.param

@pytest.fixture
def broken(nics):
    raise OSError("no carrier")

@pytest.fixture
def ends_badly(nics):
    yield
    raise OSError("left behind")

def pytest_collection_modifyitems(items):
    for item in items:
        if hasattr(item, "callspec"):
            item.user_properties.append(("nics", item.callspec.params["nics"]))
"""


@pytest.fixture
def report(tmp_path: Path):
    """A factory: the report of a run of these tests, by a pytest of its own."""

    def run(tests: str) -> Path:
        (tmp_path / "conftest.py").write_text(CONFTEST)
        (tmp_path / "test_it.py").write_text(f"import pytest\n{tests}")
        path = tmp_path / "results.xml"
        lean = ["-q", "-p", "no:cacheprovider", "-p", "no:benchmark", "-p", "no:hypothesispytest"]
        command = [sys.executable, "-m", "pytest", *lean, f"--junitxml={path}", "test_it.py"]
        done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
        assert path.exists(), done.stdout
        return path

    return run


def test_each_kind_has_its_own_tests_and_the_lab_s_are_veth_s(report):
    path = report(
        "import time\n"
        "def test_one(nics): time.sleep(0.05)\n"
        "def test_two(nics): assert nics != 'virtio'\n"
        "def test_of_the_lab(): pass\n"
        "def test_that_this_kernel_lacks_something_for(): pytest.skip('too old')\n"
    )
    facts = {"igb": {"record": "zero-copy"}}
    igb, virtio, veth = rows_of("7.2", ("igb", "virtio", "veth"), path, facts)
    assert (igb.passed, igb.summary, igb.facts) == (True, "2 passed", facts["igb"])
    assert (virtio.passed, virtio.summary) == (False, "1 failed, 1 passed")
    assert (veth.passed, veth.summary) == (True, "1 passed, 1 skipped")
    assert all(row.seconds >= 0.05 for row in (igb, virtio))


@pytest.mark.parametrize("fixture", ["broken", "ends_badly"])
def test_a_fixture_that_fails_before_or_after_a_test_fails_its_kind(report, fixture):
    path = report(f"def test_one({fixture}): pass\ndef test_two(nics): pass\n")
    for row in rows_of("7.2", ("igb", "virtio"), path, {}):
        assert not row.passed
        assert "1 error" in row.summary


def test_tests_that_can_not_be_collected_fail_a_row(report):
    path = report("import nothing_of_this_name\n")
    assert not any(row.passed for row in rows_of("7.2", ("igb", "veth"), path, {}))


def test_a_guest_that_left_no_report_has_passed_nowhere(tmp_path: Path):
    (row,) = rows_of("7.2", ("igb",), tmp_path / "results.xml", {})
    assert (row.passed, row.summary) == (False, "no result")


def test_tests_that_were_all_skipped_prove_nothing(report):
    path = report("def test_one(): pytest.skip('too old')\n")
    (row,) = rows_of("7.2", ("veth",), path, {})
    assert not row.passed
