"""Fuzz one target in this process, until its time is over or a defect is found. `tools.fuzz` starts this script."""

import resource
import sys
from pathlib import Path

import atheris

__all__ = ["main"]

# Limits for the memory of one input, and for the growth of the process over all inputs. The largest image that is
# accepted while fuzzing takes 12 MB, and the largest compressed tar 30 MB, plus fragmentation. atheris 3.0.0 never
# frees the results of instrumented comparisons, which are 2 KB of arrays per input in some targets.
_INPUT_MB, _ALL_MB = 100, 4000
_INSTRUMENTED = ["mps_shards", "tools.fuzz", "PIL", "tarfile", "webdataset", "msgspec", "numpy.lib"]


def main(name: str, corpus: Path, options: list[str]) -> None:
    """Fuzz a target. This function never returns.

    Args:
        corpus: folder of initial inputs, to which the seeds and inputs that reach new code are added.
        options: options for libFuzzer, such as ``-max_total_time=60``.
    """
    with atheris.instrument_imports(include=_INSTRUMENTED):
        from tools.fuzz.roster import target

        found = target(name)
        for number, seed in enumerate(found.seeds()):
            (corpus / f"seed-{number:02d}").write_bytes(seed)
            found.check(seed)  # so that imports and caches of the first call do not count as memory of an input

    def check(data: bytes) -> None:
        held = _resident_mb()
        found.check(data)
        took = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024 - held
        assert took <= _INPUT_MB or held + took <= before, f"this input took {took} MB, but {_INPUT_MB} are allowed"

    # libFuzzer checks memory once a second and reports the current input, so its limit is only for slow growth
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    atheris.Setup([name, f"-rss_limit_mb={before + _ALL_MB}", *options, str(corpus)], check)
    atheris.Fuzz()


def _resident_mb() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 20


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
