"""Token vectors: dropouts, the padding row, and files of pretrained vectors."""

import logging
from pathlib import Path

import pytest
import torch

from textrnn.config import EmbeddingConfig, ModelConfig
from textrnn.errors import InputError
from textrnn.model.embedding import TokenEmbedding, load_vectors

VOCABULARY = ["<pad>", "<unk>", "film", "good", ". . ."]
FILE = "the 0.1 0.2 0.3\ngood 1 2 3\n. . . 4 5 6\nfilm -1e-1 0 0.5\ngood 7 7 7\n"


def embedding(word_dropout: float = 0.0, embedding_dropout: float = 0.0, trainable: bool = True) -> TokenEmbedding:
    config = ModelConfig(
        embedding=EmbeddingConfig(size=3, trainable=trainable),
        word_dropout=word_dropout,
        embedding_dropout=embedding_dropout,
    )
    return TokenEmbedding(config, vocab_size=50)


def test_random_vectors_have_their_spread_and_padding_is_zero() -> None:
    torch.manual_seed(0)
    config = ModelConfig(embedding=EmbeddingConfig(size=100))
    weight = TokenEmbedding(config, vocab_size=500).table.get_parameter("weight").detach()
    assert torch.all(weight[0] == 0)
    assert weight[1:].std().item() == pytest.approx(0.01, rel=0.02)


def test_word_dropout_puts_the_unknown_token_and_never_on_padding() -> None:
    torch.manual_seed(0)
    table = embedding(word_dropout=0.25)
    token_ids = torch.full((100, 40), 7)
    token_ids[:, 30:] = 0
    vectors = table(token_ids)
    unknown = (vectors == table.table.get_parameter("weight")[1]).all(dim=2)
    kept = (vectors == table.table.get_parameter("weight")[7]).all(dim=2)
    assert torch.all(vectors[:, 30:] == 0)
    assert torch.all(unknown[:, :30] ^ kept[:, :30])
    assert unknown[:, :30].float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(table.eval()(token_ids), table.table(token_ids))


def test_embedding_dropout_zeroes_components_and_scales_the_rest() -> None:
    torch.manual_seed(0)
    table = embedding(embedding_dropout=0.5)
    token_ids = torch.full((200, 5), 7)
    ratio = table(token_ids) / table.table.get_parameter("weight")[7]
    assert set(ratio.detach().round(decimals=4).unique().tolist()) == {0.0, 2.0}


def test_padding_row_is_not_trained() -> None:
    table = embedding()
    table(torch.tensor([[3, 0, 0]])).sum().backward()
    gradient = table.table.get_parameter("weight").grad
    assert gradient is not None
    assert torch.all(gradient[0] == 0)
    assert torch.all(gradient[3] == 1)


def test_frozen_vectors() -> None:
    assert not any(parameter.requires_grad for parameter in embedding(trainable=False).parameters())


def write(folder: Path, content: str) -> Path:
    path = folder / "vectors.txt"
    path.write_text(content, encoding="utf-8")
    return path


@pytest.mark.parametrize("header", ["", "5 3\n"])
def test_load_vectors(tmp_path: Path, caplog: pytest.LogCaptureFixture, header: str) -> None:
    path = write(tmp_path, header + FILE)
    with caplog.at_level(logging.INFO, logger="textrnn"):
        vectors = load_vectors(path, VOCABULARY, 3)
    expected = torch.tensor([[-0.1, 0.0, 0.5], [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    torch.testing.assert_close(vectors[2:], expected)
    assert torch.all(vectors[0] == 0)
    assert 0 < vectors[1].abs().max() < 0.5
    assert "3 of 5 tokens (60.0 %)" in caplog.text
    assert torch.equal(vectors, load_vectors(path, VOCABULARY, 3)), "the random rows must be those of the seed"
    assert not torch.equal(vectors, load_vectors(path, VOCABULARY, 3, seed=1))


def test_loaded_vectors_reach_the_table(tmp_path: Path) -> None:
    vectors = load_vectors(write(tmp_path, FILE), VOCABULARY, 3)
    table = TokenEmbedding(ModelConfig(embedding=EmbeddingConfig(size=3)), len(VOCABULARY), vectors)
    torch.testing.assert_close(
        table.eval()(torch.tensor([[3, 0]]))[0], torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    )


def test_words_in_a_broken_encoding_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_bytes(b"caf\xe9 1 2 3\n\xc2\x85 1 2 3\ngood 4 5 6\n")
    assert load_vectors(path, VOCABULARY, 3)[3].tolist() == [4.0, 5.0, 6.0]


@pytest.mark.parametrize(
    ("content", "size", "message"),
    [
        (FILE, 4, r"model\.embedding\.size=4, but .* have 3 numbers; type model\.embedding\.size=3"),
        (FILE, 2, r"model\.embedding\.size=2, but .* have 3 numbers"),
        ("5 3\n" + FILE, 4, r"model\.embedding\.size=4, but .* have 3 numbers"),
        ("good 1 2 3\nfilm 1 2\n", 3, r"model\.embedding\.vectors=.*: line 2 is not a word and 3 numbers"),
        ("good 1 2 3\nfilm 1 2 3 4\n", 3, r"model\.embedding\.vectors=.*: line 2 is not a word and 3 numbers"),
        ("good 1 2 3\n\nfilm 1 2 3\n", 3, r": line 2 is not a word"),
        ("the 1 2 3\ngood 1 x 3\n", 3, r": line 2 holds something that is not a finite number"),
        ("the 1 2 3\ngood 1 nan 3\n", 3, r": line 2 holds something that is not a finite number"),
        ("the 1 2 3\n", 3, r"model\.embedding\.vectors=.* has no vector for any of the 5 tokens"),
        ("", 3, r"model\.embedding\.vectors=.* has no vector for any"),
    ],
)
def test_bad_vector_files(tmp_path: Path, content: str, size: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_vectors(write(tmp_path, content), VOCABULARY, size)


@pytest.mark.parametrize("name", ["absent.txt", "."])
def test_vector_file_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"^model\.embedding\.vectors=.* can't be read"):
        load_vectors(tmp_path / name, VOCABULARY, 3)
