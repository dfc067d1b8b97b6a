"""Types for finished batches that torch's default collation refuses.

Otherwise a DataLoader with a batch size would silently make batches of batches.
"""

from typing import Any, NoReturn

from torch.utils.data._utils.collate import default_collate_fn_map  # documented in `torch.utils.data.default_collate`

from mps_shards.errors import ConfigError

__all__ = ["whole_batch"]


class _Values(tuple[Any, ...]):
    """A finished batch that is a tuple."""

    __slots__ = ()


class _Named(dict[str, Any]):
    """A finished batch that is a dict."""

    __slots__ = ()


def whole_batch(content: Any) -> Any:
    """Return a batch, a tuple or a dict, as a type that torch's default collation refuses."""
    return _Named(content) if isinstance(content, dict) else _Values(content)


def _refuse(batch: object, **options: object) -> NoReturn:
    raise ConfigError(
        "this data set yields finished batches: pass batch_size=None to the DataLoader (or to ShardDataset, so that "
        "the DataLoader makes batches of single samples)"
    )


default_collate_fn_map |= {_Values: _refuse, _Named: _refuse}
