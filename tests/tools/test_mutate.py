"""The list of mutations keeps up with the sources."""

from pathlib import Path

import pytest

from tools.mutate import MUTATIONS, ROOT, Mutation, mutated


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_each_mutation_finds_the_check_that_it_breaks(mutation: Mutation):
    source = (ROOT / "mps_shards" / mutation.file).read_text()

    assert source.count(mutation.old) == 1
    compile(source.replace(mutation.old, mutation.new), mutation.file, "exec")


def test_a_copy_is_broken_and_the_sources_are_not(tmp_path: Path):
    mutation = MUTATIONS[0]

    copy = mutated(mutation, tmp_path) / "mps_shards" / mutation.file

    assert mutation.old not in copy.read_text() and mutation.old in (ROOT / "mps_shards" / mutation.file).read_text()


def test_a_check_that_is_not_there_is_an_error(tmp_path: Path):
    with pytest.raises(ValueError, match="holds 'no such text' 0 times"):
        mutated(MUTATIONS[0]._replace(old="no such text"), tmp_path)
