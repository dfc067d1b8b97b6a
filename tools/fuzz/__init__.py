"""Fuzzing: what strangers may hand us ends in an error of ours or in a right result, in bounded time and memory.

    python -m tools.fuzz --minutes 60             all targets in turn, coverage-guided (atheris, Linux)
    python -m tools.fuzz tar image                two of them
    python -m tools.fuzz tar --again FILE …       what a kept input does

A target is a file ``of_NAME.py`` with `seeds`, inputs to begin with, and `check`, which raises where an input finds a
defect. The tests run the same checks on mutated seeds.
"""
