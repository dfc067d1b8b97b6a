"""One target in this process, until its time is over or a defect is found: what `tools.fuzz` starts for each."""

import resource
import sys
from pathlib import Path

import atheris

__all__ = ["main"]

# That one input may take, and all together may add to what the process held before the first. While fuzzing, the
# largest image that is accepted takes 12 MB, and the largest compressed tar 30 MB; fragments come on top. atheris 3.0.0
# never frees what an instrumented comparison gives: of arrays that is 2 KB an input in some targets.
_INPUT_MB, _ALL_MB = 100, 4000
_INSTRUMENTED = ["mps_shards", "tools.fuzz", "PIL", "tarfile", "webdataset", "msgspec", "numpy.lib"]


def main(name: str, corpus: Path, options: list[str]) -> None:
    """Fuzz the target; never returns.

    Args:
        corpus: folder of inputs to begin with, where those that reach something new are kept; the seeds are added.
        options: of libFuzzer: ``-max_total_time=60``.
    """
    with atheris.instrument_imports(include=_INSTRUMENTED):
        from tools.fuzz.roster import target

        found = target(name)
        for number, seed in enumerate(found.seeds()):
            (corpus / f"seed-{number:02d}").write_bytes(seed)
            found.check(seed)  # what it imports or caches at its first call is not the input's doing

    def check(data: bytes) -> None:
        held = _resident_mb()
        found.check(data)
        took = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024 - held
        assert took <= _INPUT_MB or held + took <= before, f"this input took {took} MB, {_INPUT_MB} MB are allowed"

    # libFuzzer itself looks once a second, and blames the input of that moment: it is left to find what adds up
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    atheris.Setup([name, f"-rss_limit_mb={before + _ALL_MB}", *options, str(corpus)], check)
    atheris.Fuzz()


def _resident_mb() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 20


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
