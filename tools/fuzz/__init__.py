"""Fuzzing: every untrusted input must give a correct result or one of our errors, in bounded time and memory.

    python -m tools.fuzz --minutes 60             all targets in turn, coverage-guided (atheris, Linux)
    python -m tools.fuzz tar image                two targets
    python -m tools.fuzz tar --again FILE …       check inputs again that an earlier run kept

A target is a file ``of_NAME.py`` with the functions `seeds`, which returns initial inputs, and `check`, which raises if
an input shows a defect. The tests run the same checks on mutated seeds.
"""
