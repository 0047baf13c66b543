"""Language models through a classifier's embedding and encoder. Imports torch only.

The state after a token predicts the next one; the state of the backward direction, which has read from the end down to
a token, predicts the one before. Each direction sees only what it has read, which needs layers that don't mix
directions: one layer, or one direction.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy, embedding

from textrnn.config.schema import PAD_ID, ModelConfig
from textrnn.model.dropout import Dropout
from textrnn.model.embedding import INITIAL_STD, TokenEmbedding
from textrnn.model.encoder import Encoder

FREQUENCY_POWER = 0.75
"""Power of the tokens' frequency by which candidates are drawn (Mikolov et al. 2013)."""
ROWS_AT_A_TIME = 256
"""Predictions that are compared with the whole vocabulary at a time: 30 MB of float32 for 30,000 tokens."""
CACHED_ROWS = 512
"""Predictions that are compared with the candidates at a time on a CPU: 1 MB of float32 for 512 candidates."""


class LanguageModel(nn.Module):
    """Embedding -> one recurrent layer, or several in one direction -> scores of all tokens.

    Both directions share the output: vectors, which `tied` are those of the embedding, and biases, which start as the
    logarithm of the tokens' frequency. Each direction projects its states where they haven't the size of these vectors.
    Padding is never predicted.

    Args:
        config: The model.
        embedding: The embedding.
        encoder: The recurrent layers.
        counts: (vocab_size,), how often each token occurs in the training texts.
        tied: Whether the output's vectors are the embedding's.

    """

    def __init__(
        self, config: ModelConfig, embedding: TokenEmbedding, encoder: Encoder, counts: Tensor, *, tied: bool
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.encoder = encoder
        self.dropout = Dropout(config.output_dropout)
        self.hidden_size = config.hidden_size
        directions = encoder.output_size // config.hidden_size
        size = embedding.size if tied else config.hidden_size
        projected = size != config.hidden_size
        self.projections = nn.ModuleList(
            nn.Linear(config.hidden_size, size, bias=False) if projected else nn.Identity() for _ in range(directions)
        )
        self.output = nn.Linear(size, len(counts))
        if tied:
            assert isinstance(embedding.table, nn.Embedding)
            self.output.weight = embedding.table.weight
        else:
            nn.init.normal_(self.output.weight, std=INITIAL_STD)
        with torch.no_grad():
            self.output.bias.copy_((counts + 1).log() - (counts + 1).sum().log())

    def forward(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        """Return the loss of each prediction over the whole vocabulary, with gradients: for few predictions."""
        inside = predicted(token_ids, lengths)
        rows, targets = (torch.cat(parts) for parts in zip(*self._rows(token_ids, lengths, inside), strict=True))
        return cross_entropy(self.output(rows)[:, PAD_ID + 1 :], targets - (PAD_ID + 1), reduction="none")

    def sampled_losses(self, token_ids: Tensor, lengths: Tensor, candidates: "Candidates") -> Tensor:
        """Return the loss of each prediction, estimated from candidates.

        Args:
            token_ids: (batch, time) int64, padded with 0.
            lengths: (batch,) int64, each from 1 to time.
            candidates: The tokens that all predictions are compared with.

        Returns:
            (directions, time - 1, batch), nats; 0 where the second of the two neighbors is padding.

        """
        inside = predicted(token_ids, lengths)
        pairs = self._rows(token_ids, lengths, None)
        rows, targets = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        losses = sampled_losses(rows, targets, self.output, candidates)
        return losses.view(len(pairs), *inside.shape).masked_fill(~inside, 0.0)

    def evaluate(self, token_ids: Tensor, lengths: Tensor, weights: Tensor) -> Tensor:
        """Return (directions, 2) float64 on the CPU: sum and number of the losses, compared with the whole vocabulary.

        Args:
            token_ids: (batch, time) int64, padded with 0.
            lengths: (batch,) int64, each from 1 to time.
            weights: (batch,), 0 for a filler.

        """
        inside = predicted(token_ids, lengths) & (weights > 0)
        pairs = self._rows(token_ids, lengths, inside)
        sums = [full_losses(rows, targets, self.output).sum(dtype=torch.float64).cpu() for rows, targets in pairs]
        return torch.stack([torch.stack([total, inside.sum().double().cpu()]) for total in sums])

    def _rows(self, token_ids: Tensor, lengths: Tensor, inside: Tensor | None) -> list[tuple[Tensor, Tensor]]:
        """Return what each direction predicts from, (predictions, size), and the tokens, (predictions,).

        The predictions are those `inside`, (time - 1, batch); None: all pairs of neighbors, padding included.
        """
        # Time-major, as the layers made them.
        states = self.dropout(self.encoder(self.embedding(token_ids), lengths).transpose(0, 1))
        tokens = token_ids.T
        pairs = [(states[:-1, :, : self.hidden_size], tokens[1:])]
        if len(self.projections) == 2:
            pairs.append((states[1:, :, self.hidden_size :], tokens[:-1]))
        if inside is None:
            pairs = [(rows.reshape(-1, self.hidden_size), targets.reshape(-1)) for rows, targets in pairs]
        else:
            pairs = [(rows[inside], targets[inside]) for rows, targets in pairs]
        return [(project(rows), targets) for project, (rows, targets) in zip(self.projections, pairs, strict=True)]


def predicted(token_ids: Tensor, lengths: Tensor) -> Tensor:
    """Return which neighbors are both a review's own tokens, (time - 1, batch) bool."""
    return torch.arange(1, token_ids.shape[1], device=lengths.device).unsqueeze(1) < lengths


class Candidates:
    """Tokens, each once, with the logarithm of the probability that a draw has them.

    Attributes:
        tokens: (candidates,) int64.
        log_inclusion: (candidates,); 0 for tokens that every draw has.
    """

    def __init__(self, tokens: Tensor, log_inclusion: Tensor) -> None:
        self.tokens = tokens
        self.log_inclusion = log_inclusion

    def to(self, like: Tensor) -> "Candidates":
        """Return them on `like`'s device, with its type."""
        return Candidates(self.tokens.to(like.device), self.log_inclusion.to(like))


class CandidateSampler:
    """Draws candidates by frequency to the power 0.75; padding never.

    A token that no training text has counts as once, so that its score is learned too.

    Args:
        counts: (vocab_size,), how often each token occurs in the training texts.
        draws: Tokens that are drawn, with replacement; as many as the vocabulary or more: all tokens, exactly.

    """

    def __init__(self, counts: Tensor, draws: int) -> None:
        self._draws = draws
        self._all = draws >= len(counts) - 1
        weights = counts.double().clamp(min=1) ** FREQUENCY_POWER
        weights[PAD_ID] = 0
        self._probabilities = weights / weights.sum()
        # That of at least one hit in all draws.
        self._log_inclusion = (-torch.expm1(draws * torch.log1p(-self._probabilities))).log()

    def draw(self, seed: int) -> Candidates:
        """Return the candidates of a step, on the CPU; equal seeds give equal ones."""
        if self._all:
            tokens = torch.arange(1, len(self._probabilities))
            return Candidates(tokens, torch.zeros(len(tokens), dtype=torch.float64))
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.multinomial(self._probabilities, self._draws, replacement=True, generator=generator)
        drawn = torch.unique(drawn)
        return Candidates(drawn, self._log_inclusion[drawn])


def sampled_losses(rows: Tensor, targets: Tensor, output: nn.Linear, candidates: Candidates) -> Tensor:
    """Return cross-entropies whose normalizer is estimated from candidates, (predictions,).

    The normalizer is the target's own term and that of each candidate but the target, divided by the probability that a
    draw has this candidate. Its mean over draws is the exact one (Horvitz & Thompson 1952; importance sampling of the
    softmax: Bengio & Senecal 2008), so the loss tends to the exact one, from below, as candidates grow.

    Args:
        rows: (predictions, size).
        targets: (predictions,) int64.
        output: Vectors (vocab_size, size) and biases.
        candidates: The tokens that all rows are compared with, in one product.

    """
    weight, bias = output.weight, output.bias
    candidates = candidates.to(bias)
    # `embedding`, as the gradient of an index is slow on CPUs.
    own = (rows * embedding(targets, weight)).sum(dim=1) + bias.index_select(0, targets)
    shift = bias.index_select(0, candidates.tokens) - candidates.log_inclusion
    vectors = embedding(candidates.tokens, weight)
    kind = rows.device.type
    if torch.is_autocast_enabled(kind):
        rows, vectors = (part.to(torch.get_autocast_dtype(kind)) for part in (rows, vectors))
    column = torch.full((len(bias),), -1, device=targets.device)
    column[candidates.tokens] = torch.arange(len(candidates.tokens), device=targets.device)
    # torch leaves `Function.apply` untyped.
    others: Tensor = _LogNormalizer.apply(rows, vectors.to(rows.dtype), shift, column[targets])  # type: ignore[no-untyped-call]
    own = own.to(others.dtype)
    return torch.logaddexp(own, others) - own


class _LogNormalizer(torch.autograd.Function):
    """logsumexp of each row's scores of the candidates, (predictions,), of at least float32.

    Scores are made, exponentiated and multiplied again some rows at a time, while they are in the processor's cache:
    torch's own operations would each read and write all of them. Between the passes only the probabilities are kept.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, vectors: Tensor, shift: Tensor, own: Tensor) -> Tensor:
        """Return it for rows (predictions, size), vectors (candidates, size) and shift (candidates,), added to scores.

        `own` (predictions,) is the candidate that is a row's target, which has no term, or -1.
        """
        wide = torch.promote_types(rows.dtype, torch.float32)
        shift = shift.to(wide)
        logs = rows.new_empty(len(rows), dtype=wide)
        probabilities = rows.new_empty(len(rows), len(vectors))
        nothing = torch.finfo(wide).min / 4  # finite, as a row may have no other candidate
        with torch.autocast(rows.device.type, enabled=False):
            for some in _slices(rows):
                if rows.dtype == wide:
                    scores = torch.addmm(shift, rows[some], vectors.T)
                else:
                    scores = (rows[some] @ vectors.T).to(wide).add_(shift)
                place = own[some].unsqueeze(1)
                there = place.clamp(min=0)
                scores.scatter_(1, there, torch.where(place >= 0, nothing, scores.gather(1, there)))
                logs[some] = scores.logsumexp(dim=1)
                probabilities[some] = scores.sub_(logs[some].unsqueeze(1)).exp_()
        ctx.save_for_backward(rows, vectors, probabilities)
        return logs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Return the gradients of rows, vectors and shift."""
        rows, vectors, probabilities = ctx.saved_tensors
        (gradient,) = outer
        of_rows = torch.empty_like(rows)
        of_vectors = torch.zeros_like(vectors, dtype=gradient.dtype)
        of_shift = gradient.new_zeros(len(vectors))
        for some in _slices(rows):
            of_scores = probabilities[some] * gradient[some].unsqueeze(1).to(rows.dtype)
            of_rows[some] = of_scores @ vectors
            of_vectors += of_scores.T @ rows[some]
            of_shift += of_scores.sum(dim=0, dtype=gradient.dtype)
        return of_rows, of_vectors.to(vectors.dtype), of_shift, None


def _slices(rows: Tensor) -> Iterator[slice]:
    """Yield the rows that are computed together: on a CPU as many as its cache holds, elsewhere all."""
    size = CACHED_ROWS if rows.device.type == "cpu" else max(1, len(rows))
    for start in range(0, len(rows), size):
        yield slice(start, start + size)


@torch.no_grad()
def full_losses(rows: Tensor, targets: Tensor, output: nn.Linear) -> Tensor:
    """Return cross-entropies over all tokens but padding, (predictions,), some rows at a time; without gradients.

    The scores have one buffer, and their exponentials replace them: glibc's malloc doesn't reuse freed blocks of such
    sizes where it keeps them (`keep_freed_memory`), and a validation on IMDB took 8 GB.

    Args:
        rows: (predictions, size).
        targets: (predictions,) int64, none of them padding.
        output: Vectors (vocab_size, size) and biases.

    """
    real = torch.promote_types(output.weight.dtype, torch.float32)
    weight, bias = output.weight[PAD_ID + 1 :].to(real), output.bias[PAD_ID + 1 :].to(real)
    losses = rows.new_empty(len(rows), dtype=real)
    buffer = rows.new_empty(min(ROWS_AT_A_TIME, len(rows)), len(weight), dtype=real)
    for start in range(0, len(rows), ROWS_AT_A_TIME):
        some = slice(start, start + ROWS_AT_A_TIME)
        scores = buffer[: len(targets[some])]
        torch.addmm(bias, rows[some].to(real), weight.T, out=scores)
        of_target = scores.gather(1, (targets[some] - (PAD_ID + 1)).unsqueeze(1)).squeeze(1)
        highest = scores.amax(dim=1)
        losses[some] = scores.sub_(highest.unsqueeze(1)).exp_().sum(dim=1).log_() + highest - of_target
    return losses
