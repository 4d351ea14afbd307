"""The embedding store: one self-describing HDF5 file of rows, times and a file table.

With h5py alone::

    import h5py
    with h5py.File("sounds.h5") as f:
        path = f["files/path"].asstr(errors="surrogateescape")[:]
        first, rows = f["files/first_row"][0], f["files/rows"][0]
        print(dict(f.attrs), path[0], f["values"][first : first + rows], f["start"][:rows])
"""

from __future__ import annotations

from coala_latent.store.export import export_npy, export_npz
from coala_latent.store.merge import merge_stores
from coala_latent.store.reader import RowBlock, Store
from coala_latent.store.schema import FORMAT, FORMAT_VERSION, FileRecord, StoreIdentity
from coala_latent.store.writer import StoreWriter, recover_store

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "FileRecord",
    "RowBlock",
    "Store",
    "StoreIdentity",
    "StoreWriter",
    "export_npy",
    "export_npz",
    "merge_stores",
    "recover_store",
]
