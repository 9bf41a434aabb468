#!/bin/sh
# Records beside a program that xdp-loader (Debian: xdp-tools) has attached, then runs the
# lab's tests of the dispatcher.  Needs root, xdp-tools, bpftool and a kernel with freplace;
# ../README.md says how to have one in a guest.
set -eu
cd "${XDPCAP_ROOT:-$(dirname "$0")/../..}"
export PYTHONDONTWRITEBYTECODE=1 XDPCAP_REQUIRE_LAB=1
python=${PYTHON:-.venv/bin/python}
work=$(mktemp -d "${TMPDIR:-/dev/shm}/xdpcap-dispatcher.XXXXXX")
recorder=
trap 'test -z "$recorder" || kill "$recorder" 2>/dev/null; ip netns del blue 2>/dev/null; rm -rf "$work"' EXIT

# Not `ip netns exec`: that hides /sys/fs/bpf, where libxdp keeps its pins.
in_blue() { nsenter --net=/run/netns/blue "$@"; }
fail() { echo "FAILED: $*"; cat "$work/log"; exit 1; }
members() { in_blue xdp-loader status b0 | grep -c "$1" || true; }
seen() {
  map=$(bpftool prog show name count_and_pass | sed -n 's/.*map_ids \([0-9]*\).*/\1/p')
  bpftool map lookup id "$map" key 0 0 0 0 | sed -n 's/.*"value": \([0-9]*\).*/\1/p'
}
send() {
  "$python" - "$1" <<'PY'
import socket, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(("b1", 0))
frame = bytes.fromhex("02000000000a02000000000b88b5").ljust(60, b"x")
for _ in range(int(sys.argv[1])):
    wire.send(frame)
PY
}

uname -r
ip netns add blue
ip link add b1 type veth peer name b0 netns blue
in_blue sysctl -qw net.ipv6.conf.all.disable_ipv6=1
sysctl -qw net.ipv6.conf.b1.disable_ipv6=1
ip link set b1 up; in_blue ip link set b0 up
clang -O2 -g -target bpf "-I/usr/include/$(uname -m)-linux-gnu" \
  -c tests/programs/count_and_pass.bpf.c -o "$work/other.o"
in_blue xdp-loader load -m native b0 "$work/other.o"

mkdir "$work/captures"
nsenter --net=/run/netns/blue "$python" -m xdpcap record -i b0 -o "$work/captures" --json \
  > "$work/report.json" 2> "$work/log" & recorder=$!
for _ in $(seq 300); do grep -q 'recording b0' "$work/log" && break; sleep 0.1; done
grep 'dispatcher' "$work/log" || fail "it has not joined"
in_blue xdp-loader status b0
test "$(members xdpcap_record)" = 1 || fail "xdp-loader does not see the recording"
send 500
kill $recorder; wait $recorder || fail "the recording ended with $?"; recorder=
"$python" - "$work/report.json" <<'PY'
import json, sys
report = json.load(open(sys.argv[1]))
total = report["total"]
print({key: total[key] for key in ("seen", "redirected", "received", "written", "unaccounted")},
      report["interfaces"][0]["attach_mode"], report["clock"], sep=", ")
assert total["seen"] == total["written"] == 500 and total["unaccounted"] == 0
PY
test "$(seen)" = 0 || fail "a packet was recorded and passed on"
test "$(members xdpcap_record)" = 0 || fail "the recording is still in the dispatcher"
test "$(members count_and_pass)" = 1 || fail "the other program is gone"
send 300
test "$(seen)" = 300 || fail "the other program has seen $(seen) of 300 packets"
in_blue xdp-loader status b0
echo "other program: attached, saw 300 of 300 after the recording"
in_blue xdp-loader unload b0 --all
"$python" -m pytest -q -p no:cacheprovider --basetemp="$work/pytest" tests/lab/test_dispatcher*.py
