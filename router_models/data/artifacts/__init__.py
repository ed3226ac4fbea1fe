"""Store learned state in a folder of plain data: arrays in npz, the rest in JSON, and a sha256 manifest written last.

Nothing is pickled: loading a folder cannot run code. The folder holds exactly what its manifest lists, or is refused
by the name of the file that is missing, altered or added; what is larger than its bound is refused before it is read.
"""

from router_models.data.artifacts.bounded_json import read_bounded, read_json_file
from router_models.data.artifacts.manifest import MANIFEST, file_sha256, files_inside, seal, sealed_hashes, verify
from router_models.data.artifacts.npz_arrays import read_array
from router_models.data.artifacts.states import State, load_state, save_state

__all__ = [
    "MANIFEST",
    "State",
    "file_sha256",
    "files_inside",
    "load_state",
    "read_array",
    "read_bounded",
    "read_json_file",
    "save_state",
    "seal",
    "sealed_hashes",
    "verify",
]
