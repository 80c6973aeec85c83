"""What every stage's command line shares: errors in one line, a Ctrl-C that is safe, help with examples."""
import sys
from collections.abc import Callable

import typer

from pipeline.study import StudyError


def run(command: Callable) -> None:
    """Run a typer command. A StudyError is printed without a traceback and exits with 1; Ctrl-C exits with 130."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(command)
    try:
        app(standalone_mode=False)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except (KeyboardInterrupt, typer.Abort):
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if hasattr(error, "format_message"):  # click's usage errors
            print(f"error: {error.format_message()}\nsee --help", file=sys.stderr)
            sys.exit(2)
        raise
