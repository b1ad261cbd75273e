"""`python -m corelib` is the command line."""

from corelib.cli import main

if __name__ == "__main__":
    main()
