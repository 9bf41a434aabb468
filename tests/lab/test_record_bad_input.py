"""What can't be recorded: one line with the cause and the way out, and nothing left behind."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil

import pytest
from compiled_programs import compiled_text
from file_systems import small_tmpfs
from forked_command import ROOT
from patched_command import kernel_without_af_xdp, older_kernel
from veth_namespaces import add_veth

from xdpcap.bench.lab import in_netns
from xdpcap.host import privileges
from xdpcap.net import get_link
from xdpcap.programs.program import attached_program

PR_CAPBSET_DROP = 24
DAC_OVERRIDE, DAC_READ_SEARCH = 1, 2
_libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def refused(lab, record, tmp_path):
    """Runs `xdpcap record` to its failure; returns its line without the prefix."""
    directory = tmp_path / "captures"
    directory.mkdir()

    def run(*arguments, code=2, lab=lab, **options):
        before = sorted(directory.iterdir())
        recorder = record(*arguments, lab=lab, directory=directory, ready=False, **options)
        result = recorder.wait()
        assert result.returncode == code, result.stderr
        assert result.stdout == b""
        assert result.stderr.startswith("xdpcap: ") and result.stderr.count("\n") == 1, (
            result.stderr
        )
        assert sorted(directory.iterdir()) == before
        assert in_netns(lab.rx_ns, attached_program, lab.rx_ifindex) is None
        assert in_netns(lab.rx_ns, get_link, "rx0").promiscuity == 0
        line = result.stderr.removeprefix("xdpcap: ").rstrip()
        assert "; " in line, "a cause without a way out"
        return line

    return run


def without(*capabilities):
    """For `preexec`: give up capabilities, in the bounding set as well, all of them for none."""

    def give_up():
        for number in capabilities or range(64):
            _libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)

    return give_up


# --- the interface


def test_an_interface_that_is_not_there_is_met_with_the_nearest_name(refused):
    line = refused(interfaces=["rx1"])
    assert line == "no interface 'rx1'; did you mean rx0? (there are: lo, rx0)"


def test_an_interface_that_is_down_is_told_how_to_come_up(refused, lab):
    lab.set_link("rx0", False)
    assert refused(code=1) == "rx0 is down; `ip link set rx0 up`"
    line = refused("--netns", lab.rx_ns, code=1)
    assert line == f"rx0 is down; `ip netns exec {lab.rx_ns} ip link set rx0 up`"


def test_one_bad_interface_of_two_leaves_the_other_alone(refused, lab):
    in_netns(lab.rx_ns, add_veth, "other", "other-peer", up=False)
    assert refused(interfaces=["rx0", "other"], code=1).startswith("other is down; ")
    assert refused(interfaces=["rx0", "othr"]).startswith("no interface 'othr'; did you mean other")


@pytest.mark.parametrize(
    ("queues", "told"),
    [
        ("1", "rx0 has no RX queue 1: it has 1 RX queue (0); "),
        ("0,2-3", "rx0 has no RX queues 2, 3: it has 1 RX queue (0); "),
    ],
)
def test_a_queue_that_is_not_there_is_told_with_those_that_are(refused, queues, told):
    assert refused("--queues", queues).startswith(told)


def test_a_namespace_that_is_not_there_is_told_with_those_that_are(refused, lab):
    line = refused("--netns", lab.rx_ns[:-1])
    assert line.startswith(f"no network namespace '{lab.rx_ns[:-1]}'; did you mean {lab.rx_ns}?")


@pytest.mark.parametrize(
    ("user", "told"),
    [("nobodi", "no user 'nobodi'; "), ("root", "--user root is root, which gives up nothing; ")],
)
def test_a_user_who_can_not_be_become_is_told(refused, user, told):
    assert refused("--user", user).startswith(told)


# --- the directory


def test_a_directory_that_is_none_is_told(refused, tmp_path):
    missing, file = tmp_path / "missing", tmp_path / "file"
    file.write_bytes(b"")
    assert refused(output=str(missing)) == f"{missing}: no such directory; mkdir -p {missing}"
    assert not missing.exists()
    line = refused(output=str(file))
    assert line == f"{file}: not a directory; name the directory to write files into"
    assert refused(output=str(file / "x")).startswith(f"{file / 'x'}: Not a directory; ")


def test_a_directory_that_can_not_be_written_to_is_told(refused, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    line = refused(output=str(closed), preexec=without(DAC_OVERRIDE, DAC_READ_SEARCH))
    assert line.startswith(f"{closed}: not writable for user id 0; ")
    with small_tmpfs(tmp_path / "read-only", "ro") as read_only:
        assert refused(output=str(read_only)).startswith(f"{read_only}: on a read-only file system")


def test_a_disk_that_is_full_at_once_is_told_and_left_without_a_file(refused, tmp_path):
    with small_tmpfs(tmp_path / "full", "size=64k") as full:
        (full / "all-of-it").write_bytes(bytes(65536))
        line = refused(output=str(full), code=1)
        assert line.startswith(f"write({full}): ENOSPC (No space left on device); the disk is full")
        assert os.listdir(full) == ["all-of-it"]


def test_a_disk_without_room_for_another_name_is_told_and_left_without_a_file(
    refused, make_lab, record, tmp_path
):
    # Room for the directory and one file, and there are two queues.
    lab = make_lab(queues=2)
    with small_tmpfs(tmp_path / "few", "nr_inodes=2") as few:
        result = record(lab=lab, output=str(few), ready=False).wait()
        assert result.returncode == 1
        assert "Traceback" not in result.stderr
        (line,) = [text for text in result.stderr.splitlines() if text.startswith("xdpcap: ")]
        assert "ENOSPC (No space left on device); the disk is full" in line
        assert os.listdir(few) == []
    assert in_netns(lab.rx_ns, attached_program, lab.rx_ifindex) is None


def test_a_file_size_limit_of_nothing_is_told(lab, record):
    reader, writer = os.pipe()

    def limit():
        # Standard error is a file here, and would be under the limit as well.
        os.dup2(writer, 2)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    result = record(ready=False, preexec=limit).wait()
    os.close(writer)
    with os.fdopen(reader) as pipe:
        told = pipe.read()
    assert result.returncode == 1
    assert told.startswith("xdpcap: ") and told.count("\n") == 1, told
    assert "EFBIG (File too large); the file-size limit is reached; raise it with ulimit -f" in told
    assert result.files == []
    assert in_netns(lab.rx_ns, attached_program, lab.rx_ifindex) is None


@pytest.mark.parametrize(("queues", "allowed", "needed"), [(1, 16, 40), (4, 48, 64)])
def test_too_few_descriptors_are_told(refused, make_lab, queues, allowed, needed):
    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, allowed))

    line = refused(lab=make_lab(queues=queues), code=1, preexec=limit)
    assert f"may need {needed} descriptors and the limit is {allowed}; " in line
    assert line.endswith(f"raise it with `ulimit -n {needed}`")


# --- numbers and options

CONTRADICTIONS = [
    (["--ring-size", "1000"], "--ring-size 1000: must be a power of two; use 1024"),
    (["--ring-size", "4096", "--umem-size", "4MiB"], "--umem-size 4MiB: 2048 frames of 2048 bytes"),
    (["--ring-size", "8589934592", "--umem-size", "16TiB"], "more than the 2147483648 frames"),
    (["--umem-size", "16TiB"], "--umem-size 16TiB: more than the 2147483648 frames"),
    (["--umem-size", "1000"], "--umem-size 1000: must be a multiple of the page size"),
    (["--frame-size", "3000"], "--frame-size 3000: must be a power of two"),
    (["--frame-size", "8192"], "--frame-size 8192: must be a power of two from 2048"),
    (["--batch", "0"], "--batch 0: must be at least 1"),
    (["--write-buffer", "100KiB"], "--write-buffer 102400: must be a multiple of 4096 from"),
    (["--write-buffer-count", "1"], "--write-buffer-count 1: must be at least 2"),
    (["--snaplen", "300000"], "--snaplen 300000: must be at most 262144"),
    (["--count", "0"], "--count 0: must be at least 1"),
    (["--duration", "0s"], "--duration 0: must be more than 0 seconds"),
    (["--queues", "0,0"], "--queues"),
    (["--cpus", "4000"], "--cpus 4000: this process may run on"),
    (["--attach", "offload"], "--attach offload: AF_XDP can't be fed from an offloaded program"),
    (
        ["--attach", "generic", "--zero-copy", "require"],
        "--zero-copy require with --attach generic",
    ),
    (["--rotate-align"], "--rotate-align: there is no interval to align"),
    (["--keep", "3"], "--keep: old files make room for new ones"),
    (["--keep-size", "1MiB", "--rotate-size", "2MiB"], "--keep-size 1MiB: less than one file"),
    (["--rotate-interval", "1ms"], "--rotate-interval 1ms: must be at least 100ms"),
    (["--name", "{interface}.{ext}", "--rotate-size", "1M"], "--name '{interface}.{ext}': "),
    (["--name", "../x"], "--name '../x': a name can't contain '/'"),
    (["--post-rotate", ""], "--post-rotate"),
    (["--quiet", "--stats-interval", "5s"], "--quiet with --stats-interval"),
    (["--stats-interval", "1ms"], "--stats-interval 1ms: must be at least 100ms"),
    (["--format", "cap"], "--format"),
    (["--umem-size", "64XB"], "--umem-size"),
    (["--no-such-option"], "--no-such-option"),
]


@pytest.mark.parametrize(
    ("arguments", "told"), CONTRADICTIONS, ids=[" ".join(words) for words, _ in CONTRADICTIONS]
)
def test_options_that_can_not_be_meant_are_refused(refused, arguments, told):
    assert told in refused(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--rotate-size", "1M"],
        ["--keep", "2"],
        ["--post-rotate", "true"],
        ["--name", "x"],
        ["--json"],
    ],
    ids=" ".join,
)
def test_what_is_done_to_files_is_refused_for_standard_output(refused, arguments):
    line = refused(*arguments, output="-")
    assert line.startswith(f"-o - with {arguments[0]}: ")


# --- privileges and kernels


def test_every_missing_privilege_is_named_with_the_way_to_get_it(refused):
    line = refused(preexec=without())
    assert line.startswith(
        "not allowed to record, missing: CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF, CAP_PERFMON"
    )
    assert "; run it with sudo, or once `setcap cap_net_admin,cap_net_raw," in line


@pytest.mark.parametrize(
    ("given_up", "told"),
    [
        ((privileges.CAP_NET_RAW,), "missing: CAP_NET_RAW; "),
        ((privileges.CAP_BPF, privileges.CAP_SYS_ADMIN), "missing: CAP_BPF; "),
    ],
)
def test_one_missing_privilege_is_the_one_that_is_named(refused, given_up, told):
    assert told in refused(preexec=without(*given_up))


def test_too_little_memory_that_may_be_locked_is_told(refused):
    def limit():
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
        without(privileges.CAP_IPC_LOCK, privileges.CAP_SYS_RESOURCE)()

    line = refused(preexec=limit)
    assert line == (
        "not allowed to record, missing: memlock; run it with sudo, or after `ulimit -l 65536`"
    )


def test_more_memory_than_there_is_is_told(refused):
    line = refused("--umem-size", "4TiB", "--ring-size", "1024", code=1)
    assert line.startswith("1 queue needs 4.0 TiB of memory and ")
    assert "ask for less with --umem-size" in line


def test_a_kernel_without_af_xdp_is_told(refused):
    assert "no AF_XDP sockets" in refused(env=kernel_without_af_xdp())
    assert "needs Linux 4.18 or later" in refused(env=older_kernel("4.17.0"))


def test_a_native_program_that_the_mtu_forbids_is_told(refused, make_lab):
    lab = make_lab(mtu=9000)
    line = refused("--attach", "native", lab=lab, code=1, env=older_kernel("6.5.0"))
    assert line.startswith("attach(native, ifindex 7001): ERANGE ")
    assert "the MTU is too large for native XDP" in line


# --- the program

REFUSED_PROGRAM = """
const volatile struct xdpcap_settings settings SEC(XDPCAP_SETTINGS) = {};
SEC("xdp") int xdpcap_record(struct xdp_md *ctx)
{
	return settings.clock + *(int *)((void *)(long)ctx->data + 4000);
}
"""


@pytest.fixture
def package(tmp_path):
    """A copy of the package, whose programs a test may spoil; `preexec` goes there."""
    shutil.copytree(ROOT / "xdpcap", tmp_path / "copy" / "xdpcap")
    return tmp_path / "copy"


def programs_of(package):
    return sorted((package / "xdpcap" / "programs" / "objects").glob("record_*.bpf.o"))


def test_an_interface_that_spreads_nothing_by_a_hash_is_told(refused):
    line = refused("--rss", "symmetric")
    assert line.startswith("--rss symmetric: rx0 does not spread packets by a hash")
    assert "--hash program" in line


def test_a_program_that_the_verifier_refuses_is_told_in_the_verifiers_words(refused, package):
    refused_object = compiled_text(REFUSED_PROGRAM, package)
    for path in programs_of(package):
        shutil.copy(refused_object, path)
    line = refused(code=1, preexec=lambda: os.chdir(package))
    assert line.startswith("loading record_frags.bpf.o: EACCES (Permission denied); verifier: ")
    assert "invalid access to packet" in line


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "record_metadata.bpf.o is not a complete eBPF object"),
        (b"not an ELF object", "record_metadata.bpf.o is not a complete eBPF object"),
        (None, "record_frags.bpf.o): ENOENT (No such file or directory)"),
    ],
)
def test_a_program_that_is_none_is_told(refused, package, content, told):
    for path in programs_of(package):
        path.unlink() if content is None else path.write_bytes(content)
    assert told in refused(code=1, preexec=lambda: os.chdir(package))
