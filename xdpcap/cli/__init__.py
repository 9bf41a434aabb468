"""The command line: commands, live tables and closing reports; imports bench, errors, inspect,
net, options, programs, record, replay and savefile.

Whatever goes wrong ends here as one line on standard error: 0 done, 1 failed
while running, 2 asked wrongly, 130 interrupted. A traceback is shown for
mistakes of the program itself only, and only with XDPCAP_DEBUG=1.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import click

from xdpcap import __version__
from xdpcap.cli import streams
from xdpcap.cli.bench import bench_command
from xdpcap.cli.dump import dump_command
from xdpcap.cli.filter import filter_command
from xdpcap.cli.interfaces import interfaces_command
from xdpcap.cli.options import CONTEXT_SETTINGS, usage_line
from xdpcap.cli.record import record_command
from xdpcap.cli.replay import replay_command
from xdpcap.cli.split import split_command
from xdpcap.cli.stats import stats_command
from xdpcap.errors import XdpcapError, explain

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def _print_version(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from xdpcap.cli.versions import library_versions

    below = ", ".join(f"{name} {version}" for name, version in library_versions().items())
    click.echo(f"xdpcap {__version__}\n{below}")
    ctx.exit()


def _print_cflags(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from xdpcap.cli.versions import bpf_cflags

    click.echo(" ".join(bpf_cflags()))
    ctx.exit()


@click.group(context_settings=CONTEXT_SETTINGS)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the versions of xdpcap, its libraries and the kernel, and exit.",
)
@click.option(
    "--cflags",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_cflags,
    help="Print clang's flags for a program of your own (record --bpf), and exit.",
)
def commands() -> None:
    """Capture packets with AF_XDP into pcapng and pcap files, and replay them."""


commands.add_command(record_command)
commands.add_command(replay_command)
commands.add_command(dump_command)
commands.add_command(interfaces_command)
commands.add_command(split_command)
commands.add_command(filter_command)
commands.add_command(stats_command)
commands.add_command(bench_command)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command in `args` (the process's own without it), and exit with its code."""
    streams.prepare()
    sys.exit(_run(args) or _flush())


def _run(args: Sequence[str] | None) -> int:
    try:
        code = commands.main(args, prog_name="xdpcap", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    except (KeyboardInterrupt, click.Abort):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        streams.abandon(sys.stdout)
        return EXIT_FAILED
    except Exception as error:
        return _explain(error)


def _flush() -> int:
    """Write out what click printed, here where a failure can still be told."""
    try:
        streams.emit("")
    except BrokenPipeError:
        streams.abandon(sys.stdout)
        return EXIT_FAILED
    except XdpcapError as error:
        return _complain(str(error))
    return 0


def _explain(error: Exception) -> int:
    """Print what `error` says on one line, and return its exit code."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        # Not an error line but the help: `xdpcap` alone asks what there is.
        error.show()
        return EXIT_USAGE
    if isinstance(error, click.UsageError):
        return _complain(usage_line(error), EXIT_USAGE)
    if isinstance(error, click.ClickException):
        return _complain(error.format_message(), error.exit_code)
    if isinstance(error, XdpcapError):
        return _complain(str(error), error.exit_code)
    if isinstance(error, OSError) and not _debugging():
        return _complain(f"{error}; XDPCAP_DEBUG=1 shows where")
    return _unexpected(error)


def _complain(text: str, code: int = EXIT_FAILED) -> int:
    streams.complain(text)
    return code


def _debugging() -> bool:
    return os.environ.get("XDPCAP_DEBUG") == "1"


def _unexpected(error: Exception) -> int:
    if _debugging():
        traceback.print_exception(error)
        return EXIT_FAILED
    return _complain(explain(error))
