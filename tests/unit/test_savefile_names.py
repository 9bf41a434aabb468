"""File names: the default, templates, what no template may do."""

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpcap.errors import UsageError
from xdpcap.savefile.names import NameTemplate, safe_text

# 2026-11-21T09:30:00.123456789Z
START_NS = 1795253400_123456789


def render(template: str, interface="eth0", queue=3, start_ns=START_NS, sequence=7, **options):
    return NameTemplate(template, host="probe", **options).render(
        interface, queue, start_ns, sequence
    )


def refusal(call) -> str:
    with pytest.raises(UsageError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_default_name_tells_interface_queue_start_and_sequence():
    name = NameTemplate().render("eth0", 0, START_NS, 1)
    assert name == "eth0-q0-20261121T093000.123456789Z-000001.pcapng"


def test_the_extension_follows_the_format():
    name = NameTemplate(ext="pcap").render("eth0", 0, START_NS, 1)
    assert name == "eth0-q0-20261121T093000.123456789Z-000001.pcap"


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{host}-{interface}.{queue:02d}.{sequence}.{ext}", "probe-eth0.03.7.pcapng"),
        ("{queue:x}-{sequence:04X}", "3-0007"),
        ("%Y%m%d-%H%M%S-q{queue}.pcapng", "20261121-093000-q3.pcapng"),
        ("{start:%F_%T}.{ext}", "2026-11-21_09:30:00.pcapng"),
        ("{start}", "20261121T093000.123456789Z"),
        ("%s.%f", "1795253400.123456"),
        ("%j %U %y %b %a %p %e", "325 46 26 Nov Sat AM 21"),
        ("%Z%z 100%% {{braces}}", "UTC+0000 100% {braces}"),
    ],
)
def test_a_template_takes_fields_and_time_codes_in_utc(template, name, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert render(template) == name


def test_names_of_one_source_sort_in_the_order_of_their_start():
    starts = [0, 999_999_999, START_NS, START_NS + 1, START_NS + 86400_000_000_000]
    names = [NameTemplate().render("eth0", 0, start, 1) for start in starts]
    assert names == sorted(names)


@pytest.mark.parametrize(
    ("template", "cause"),
    [
        ("{iface}.pcap", "no field {iface}; the fields are {interface} {queue} {start}"),
        ("{}.pcap", "no field {}"),
        ("{0}.pcap", "no field {0}"),
        ("{interface.__class__}", "no field {interface.__class__}"),
        ("{interface[0]}", "no field {interface[0]}"),
        ("{interface!r}", "conversions"),
        ("{interface", "expected '}'"),
        ("interface}", "Single '}'"),
        ("{queue:c}", "not a format for a number"),  # would make "/" of queue 47
        ("{queue:6}", "not a format for a number"),  # would make spaces
        ("{sequence:{queue}d}", "not a format for a number"),
        ("{interface:.1}", "a text takes no format"),  # would make eth0 and enp1 the same
        ("%D.pcap", "'%D' is no time code"),  # 11/21/26
        ("%x.pcap", "'%x' is no time code"),
        ("%n", "'%n' is no time code"),
        ("%\n", "control characters"),
        ("%-d", "'%-' is no time code"),
        ("100%", "'%' is no time code"),
        ("{start:%Q}", "'%Q' is no time code"),
        ("a/b.pcap", "can't contain '/'"),
        ("/tmp/a.pcap", "can't contain '/'"),
        ("..", "can't contain '..'"),
        (".", "is the directory itself"),
        ("a\0b", "control characters"),
        ("", "would be empty"),
        ("{interface}.part", "marks files being written"),
    ],
)
def test_a_template_that_makes_no_name_is_refused_with_its_cause(template, cause):
    message = refusal(lambda: NameTemplate(template))
    assert message.startswith("--name ")
    assert cause in message
    assert "; " in message


def test_several_queues_need_the_queue_in_the_name():
    template = NameTemplate("{interface}-{sequence}-{start}")
    template.check([("eth0", 0)], rotating=True)
    message = refusal(lambda: template.check([("eth0", 0), ("eth0", 1)], rotating=True))
    assert "eth0 queue 0 and eth0 queue 1 would both write" in message
    assert message.endswith("add {queue}")


def test_several_interfaces_need_the_interface_in_the_name():
    template = NameTemplate("q{queue}-{sequence}")
    template.check([("eth0", 0), ("eth0", 1)], rotating=True)
    message = refusal(lambda: template.check([("eth0", 0), ("eth1", 0)], rotating=True))
    assert message.endswith("add {interface}")


def test_interface_and_queue_that_run_into_each_other_are_refused():
    template = NameTemplate("{interface}{queue}-{sequence}")
    message = refusal(lambda: template.check([("eth1", 11), ("eth11", 1)], rotating=True))
    assert "both write eth111-1" in message


@pytest.mark.parametrize("template", ["{interface}-q{queue}", "q{queue}-%Y%m%d-%H%M%S"])
def test_rotation_needs_a_sequence_or_a_start_below_the_second(template):
    NameTemplate(template).check([("eth0", 0)], rotating=False)
    message = refusal(lambda: NameTemplate(template).check([("eth0", 0)], rotating=True))
    assert message.endswith("add {sequence} or {start}")


@pytest.mark.parametrize("template", ["q{queue}-{start}", "{queue}-%s.%f", "{queue}.{sequence}"])
def test_rotation_takes_any_name_that_changes_with_the_file(template):
    NameTemplate(template).check([("eth0", 0), ("eth0", 1)], rotating=True)


def test_a_name_too_long_for_the_file_system_is_refused_before_recording():
    template = NameTemplate("{interface}" + "x" * 240)
    template.check([("e", 0)], rotating=False)
    message = refusal(lambda: template.check([("ethernet10", 0)], rotating=False))
    assert "names would have 250 bytes; shorten it to at most 246" in message


@pytest.mark.parametrize(
    ("interface", "safe"),
    [
        ("eth0", "eth0"),
        ("br-lan.100", "br-lan.100"),
        ("wg_0~a", "wg_0~a"),
        ("veth0@if3", "veth0%40if3"),
        ("%Y{queue}", "%25Y%7Bqueue%7D"),
        ("-rf", "%2Drf"),
        (".hidden", "%2Ehidden"),
        ("a\x1b[2Jb", "a%1B%5B2Jb"),
        ("é", "%C3%A9"),
        (os.fsdecode(b"\xff"), "%FF"),
        ("a/b", "a%2Fb"),
        ("..", "%2E."),
    ],
)
def test_an_odd_interface_name_is_written_safely(interface, safe):
    assert safe_text(interface) == safe
    assert render("{interface}.pcap", interface=interface) == f"{safe}.pcap"


@given(
    st.binary(min_size=1, max_size=15).filter(lambda name: b"\0" not in name),
    st.binary(min_size=1, max_size=15).filter(lambda name: b"\0" not in name),
)
def test_different_interface_names_stay_different_and_inside_the_directory(one, other):
    first, second = (render("{interface}", interface=os.fsdecode(name)) for name in (one, other))
    assert (first == second) == (one == other)
    assert re.fullmatch(r"[A-Za-z0-9_~%][A-Za-z0-9_~%.-]*", first)


@pytest.mark.parametrize(
    "template",
    [
        "{interface}-q{queue}-{start}-{sequence:06d}.{ext}",
        "{host}[{queue:02x}] (%Y-%m-%d %H:%M:%S.%f).{ext}",
        "{interface}.%s.%a.%A.%b.%B.%h.%p.%C.%d.%g.%I.%S.%U.%V.%W.%y.%e.%k.%l.%F.%G.%j.%R.%T.%u.%w.%Z%z%%",
        "{start:%T}+{sequence:X}",
    ],
)
@pytest.mark.parametrize("start_ns", [0, START_NS, 253402300799_000000000])
def test_the_pattern_matches_every_name_that_the_template_makes(template, start_ns):
    names = NameTemplate(template, host="probe-1")
    pattern = names.pattern(["eth0", "a|b"])
    for interface in ("eth0", "a|b"):
        for number in (0, 9, 255, 10_000_000):
            name = names.render(interface, number, start_ns, number)
            assert pattern.fullmatch(name), name
            assert not pattern.fullmatch(name + "x")
            assert not pattern.fullmatch("x" + name)


def test_the_pattern_leaves_other_interfaces_hosts_and_formats_alone():
    names = NameTemplate("{host}-{interface}-q{queue}-{start}-{sequence:06d}.{ext}", host="a")
    pattern = names.pattern(["eth0"])
    mine = "a-eth0-q0-20261121T093000.123456789Z-000001.pcapng"
    assert pattern.fullmatch(mine)
    for other in (
        mine.replace("eth0", "eth1"),
        mine.replace("a-", "b-"),
        mine.replace("pcapng", "pcap"),
        mine.replace(".", "x", 1),
        mine.replace("-000001", "-1"),
        mine + ".gz",
        mine + ".part",
        mine + "\n",
    ):
        assert not pattern.fullmatch(other), other


def test_the_host_name_is_the_machine_s_own():
    assert NameTemplate("{host}").render("eth0", 0, 0, 1) == safe_text(os.uname().nodename)
