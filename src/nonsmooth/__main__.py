"""The program `nonsmooth`, also as `python -m nonsmooth`."""

from __future__ import annotations


def main() -> None:
    """Run the command line, or say what has to be installed for it."""
    try:
        from nonsmooth import cli  # noqa: PLC0415 - needs an extra
    except ImportError as error:
        raise SystemExit(str(error)) from None
    cli.main()


if __name__ == "__main__":
    main()
