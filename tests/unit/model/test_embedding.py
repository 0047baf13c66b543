"""Token vectors: dropouts and the padding row."""

import pytest
import torch

from textrnn.config.schema import EmbeddingConfig, ModelConfig
from textrnn.model.embedding import TokenEmbedding, bigram_rows


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


# --- hashed bigrams -----------------------------------------------------------------------------------------------


def with_bigrams(dropout: float = 0.0, word_dropout: float = 0.0) -> TokenEmbedding:
    """An embedding whose bigrams have random vectors, without the words' dropouts."""
    embedding = EmbeddingConfig(size=4, bigrams=11, bigram_dropout=dropout, bigram_word_dropout=word_dropout)
    config = ModelConfig(embedding=embedding, word_dropout=0.0, embedding_dropout=0.0)
    made = TokenEmbedding(config, vocab_size=50)
    assert made.bigrams is not None
    assert torch.all(made.bigrams.table.weight == 0)
    torch.nn.init.normal_(made.bigrams.table.weight[1:])
    return made


def slow_row(previous: int, current: int, rows: int) -> int:
    """The hash as its docstring has it."""
    mixed = (1_000_003 * previous + current) % 2**32
    mixed ^= mixed >> 16
    mixed = mixed * 0x45D9F3B % 2**32
    mixed ^= mixed >> 16
    return 1 + mixed % (rows - 1)


def test_each_token_has_the_vector_of_its_word_and_of_its_bigram() -> None:
    table = with_bigrams().eval()
    assert table.bigrams is not None
    token_ids = torch.tensor([[3, 7, 3, 7, 1], [9, 9, 0, 0, 0], [5, 0, 0, 0, 0]])
    vectors = table(token_ids)
    words, pairs = (of.get_parameter("weight") for of in (table.table, table.bigrams.table))
    for review, ids in zip(vectors, token_ids.tolist(), strict=True):
        for place, current in enumerate(ids):
            expected = words[current]
            if place > 0 and current != 0:
                expected = expected + pairs[slow_row(ids[place - 1], current, 11)]
            assert torch.equal(review[place], expected)
    vectors.sum().backward()
    gradient = pairs.grad
    assert gradient is not None
    assert torch.all(gradient[0] == 0)


def test_bigrams_share_rows_evenly_and_their_order_counts() -> None:
    ids = torch.arange(2, 302)
    pairs = torch.cartesian_prod(ids, ids).T  # (2, 90,000)
    rows = bigram_rows(pairs, 4097)[1]
    counts = rows.bincount(minlength=4097)
    assert counts[0] == 0
    assert counts[1:].float().var() < 1.1 * 90000 / 4096, "at least as even as balls thrown into urns"
    assert (rows == bigram_rows(pairs.flip(0), 4097)[1]).float().mean() < 0.01
    assert bigram_rows(torch.tensor([[2**31 - 1], [2**31 - 2]]), 65536).tolist()[1] == [
        slow_row(2**31 - 1, 2**31 - 2, 65536)
    ]


def test_bigrams_are_dropped_whole_and_by_components() -> None:
    torch.manual_seed(0)
    token_ids = torch.randint(2, 50, (200, 20))
    for table, share, whole in ((with_bigrams(word_dropout=0.25), 0.25, True), (with_bigrams(dropout=0.5), 0.5, False)):
        added = (table.train()(token_ids) - table.table(token_ids))[:, 1:]
        dropped = (added.abs() < 1e-6).float()
        assert dropped.mean().item() == pytest.approx(share, abs=0.03)
        assert bool(set(dropped.mean(dim=2).unique().tolist()) == {0.0, 1.0}) == whole
