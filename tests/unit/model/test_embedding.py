"""Token vectors: dropouts and the padding row."""

import pytest
import torch

from textrnn.config.schema import EmbeddingConfig, ModelConfig
from textrnn.model.embedding import TokenEmbedding


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


def test_variational_dropout_zeroes_the_same_components_for_all_tokens_of_a_review() -> None:
    torch.manual_seed(0)
    config = ModelConfig(embedding=EmbeddingConfig(size=64), word_dropout=0.0, variational_dropout=True)
    vectors = TokenEmbedding(config, vocab_size=50)(torch.randint(2, 50, (6, 9)))
    dropped = vectors == 0
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert len({tuple(mask.tolist()) for mask in dropped[:, 0]}) == 6, "each review has a mask of its own"


def test_onehot_vectors_have_no_parameters() -> None:
    config = ModelConfig(embedding=EmbeddingConfig(kind="onehot"), word_dropout=0.4, embedding_dropout=0.0)
    vectors = TokenEmbedding(config, vocab_size=6)
    assert vectors.size == 6
    assert list(vectors.parameters()) == []
    assert vectors.state_dict() == {}
    token_ids = torch.tensor([[3, 5, 1], [2, 0, 0]])
    expected = torch.eye(6)[token_ids] * (token_ids != 0).unsqueeze(2)
    assert torch.equal(vectors.eval()(token_ids), expected)
    assert vectors.double()(token_ids).dtype == torch.float64
    torch.manual_seed(0)
    ids = torch.full((100, 40), 3).masked_fill(torch.arange(40) >= 30, 0)
    drawn = vectors.train()(ids)
    assert torch.equal(drawn.sum(dim=2), (ids != 0).double()), "a 1 for each token, none for padding"
    assert set(drawn.argmax(dim=2)[:, :30].unique().tolist()) == {1, 3}
    assert drawn[:, :30, 1].mean().item() == pytest.approx(0.4, abs=0.04)
