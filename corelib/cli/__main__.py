"""`python -m corelib.cli` is `corelib`."""

from corelib.cli import main

if __name__ == "__main__":
    main()
