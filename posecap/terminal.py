"""What the command lines of posecap and of tmor_train share: parsers of commands, exit codes, errors, wording."""

from __future__ import annotations

import argparse
import gc
import os
import select
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.abc import MetaPathFinder
from typing import Any, TextIO

COMPLETE, ERROR, USAGE, PARTIAL, ALARM, INTERRUPTED, CUT_OFF = 0, 1, 2, 3, 4, 130, 141
"""Exit codes. PARTIAL: some rows failed and are recorded, or a build is unfinished. ALARM: a build is finished, but a
stage lost far more than expected (:func:`posecap.outcomes.alarms`), which goes before PARTIAL; or `posecap leakage`
found footage in several splits. ERROR: also, in every command, that its dataset
is missing, or too damaged for it. USAGE: arguments that are not known or do not go together, whatever the dataset; it
is argparse's own, INTERRUPTED that of shells for Ctrl-C, CUT_OFF that of shells for SIGPIPE: whoever read the output,
such as head, has closed it, and how the command ended is not known."""

Commands = argparse._SubParsersAction  # argparse gives the type no public name


@contextmanager
def without_collection() -> Iterator[None]:
    """Around imports, which make many objects and free none: Python looks for no garbage meanwhile, and later not in
    what was made.
    """
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def without_pandas() -> None:
    """Keep pyarrow from importing pandas, a quarter of a second, where it is installed and nothing has imported it.

    pyarrow does so when it first makes an array, to see whether it was given one of pandas' own. From then on it takes
    a pandas series as any other sequence; what pandas itself does, and conversions to pandas, stay as they are.
    """
    if "pandas" in sys.modules or "pyarrow" in sys.modules:
        return
    refusing = _Refusing()
    sys.meta_path.insert(0, refusing)
    try:
        import pyarrow as pa

        pa.array([])
    finally:
        sys.meta_path.remove(refusing)


class _Refusing(MetaPathFinder):
    """Has pandas not found, as where it is not installed."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is not looked for", name=fullname)


def command(
    commands: Commands[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    *,
    about: str,
    more: str = "",
) -> argparse.ArgumentParser:
    """Add the parser of one command.

    Args:
        commands: of the program, or of a command that has commands of its own.
        run: gets the parsed arguments and returns the exit code.
        about: one line for the list of commands, without a full stop.
        more: text below the arguments.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=about,
        description=f"{about[0].upper()}{about[1:]}.",
        epilog=more,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=run)
    return parser


def add_completion(commands: Commands[argparse.ArgumentParser], program: argparse.ArgumentParser) -> None:
    """Add ``completion``, which prints the script by which a shell completes the program's commands and flags."""
    name = program.prog
    more = f"""\
  {name} completion bash > ~/.local/share/bash-completion/completions/{name}
  {name} completion zsh > "${{fpath[1]}}/_{name}"

The script knows the commands of this release; make it anew after an update.
"""

    def show(options: argparse.Namespace) -> int:
        try:
            import shtab
        except ModuleNotFoundError:
            print(f"{name}: completion needs shtab: pip install shtab", file=sys.stderr)
            return ERROR
        print(shtab.complete(program, options.shell))
        return COMPLETE

    about = "print the script by which a shell completes commands and flags"
    parser = command(commands, "completion", show, about=about, more=more)
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"))


def at_least_one(text: str) -> int:
    """Parse an argument that is a positive integer.

    Raises:
        ValueError, argparse.ArgumentTypeError: it is no integer, of which argparse says that it is invalid, or below 1.
    """
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


class FormerFlag(argparse.Action):
    """The former name of a flag that takes one value; help leaves it out. It sets the value and prints the present name
    (``const``); ``dest`` and ``type`` are to be given as of the flag itself."""

    def __init__(self, option_strings: list[str], dest: str, **settings: Any) -> None:
        super().__init__(option_strings, dest, default=argparse.SUPPRESS, help=argparse.SUPPRESS, **settings)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        print(f"{parser.prog.split()[0]}: {option_string} is called {self.const} now", file=sys.stderr)
        setattr(namespace, self.dest, values)


def run_command(
    options: argparse.Namespace,
    *,
    program: str,
    traceback_variable: str,
    message: Callable[[Exception], str | None],
    stopped: str = "stopped",
) -> int:
    """Run the command that the arguments name; returns the exit code.

    Args:
        options: parsed by a parser that requires a command, one of those that :func:`command` added.
        program: name at the beginning of what is printed about an error.
        traceback_variable: environment variable that, if set, lets errors through with their traceback.
        message: what to print of an error; None for an unexpected one, of which type and text are printed.
        stopped: printed after Ctrl-C.
    """
    run: Callable[[argparse.Namespace], int] = options.command
    try:
        code = run(options)
        sys.stdout.flush()  # short output is written here first
        return code
    except KeyboardInterrupt:
        print(f"\n{stopped}", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _is_closed(sys.stdout):
            # Python must not fail again when it flushes at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return CUT_OFF
        if os.environ.get(traceback_variable):
            raise
        words = message(error)
        print(f"{program}: {type(error).__name__ + f': {error}' if words is None else words}", file=sys.stderr)
        if words is None:
            print(f"{program}: set {traceback_variable}=1 for the traceback", file=sys.stderr)
        return ERROR


def _is_closed(stream: TextIO) -> bool:
    """Whether a stream is a pipe or socket that nobody reads any more."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)  # errors are reported in any case
        return bool(poll.poll(0))
    except (OSError, ValueError):  # it has no file, or that is closed here
        return False


def count_text(count: int, noun: str) -> str:
    """``1 row``, ``2,000 rows``: a count with its noun, which is given in the singular and takes an s."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def nearest(word: str, words: Collection[str], *, there: str = "there are") -> str:
    """The end of a message about an unknown word: the nearest known word, and all of them, as ``there`` introduces
    them."""
    close = get_close_matches(word, words, n=1)
    meant = f"did you mean {close[0]!r}? " if close else ""
    return f"{meant}{there} {', '.join(map(repr, words))}"


def duration_text(seconds: float) -> str:
    """A duration in the form ``0:07``, ``1:02:03`` or ``2 d 5 h``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
