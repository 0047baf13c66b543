"""How often 95 % intervals of a difference of accuracies hold the truth: python benchmarks/coverage.py [--draws 1000].

Reviews have a difficulty that both settings share; settings, seeds and single predictions have effects of their own.
All are normal, so that the true difference is known.
"""

import argparse
import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from textrnn.comparing.statistics import over_reviews, over_seeds, over_seeds_and_reviews

Differences = npt.NDArray[np.int8]
Interval = tuple[float, float]
DIFFICULTY, OWN, SINGLE = 0.8, 0.3, 0.5
"""Standard deviations of a review's difficulty, of a setting's own part of it, and of a single prediction."""
SEED_EFFECTS = (0.0, 0.01, 0.03, 0.1)
"""Standard deviations of a seed's effect; 0.03 are about half a point of accuracy."""
REVIEWS = 2000


def draw(rng: np.random.Generator, seeds: int, effect: float) -> tuple[Differences, float]:
    """Return differences, (seeds, reviews), and the true mean difference."""
    spread = math.sqrt(DIFFICULTY**2 + OWN**2 + SINGLE**2 + effect**2)
    difficulty, means = rng.normal(0, DIFFICULTY, REVIEWS), (1.25, 1.15)
    right = [
        mean
        + difficulty
        + rng.normal(0, OWN, REVIEWS)
        + rng.normal(0, effect, (seeds, 1))
        + rng.normal(0, SINGLE, (seeds, REVIEWS))
        > 0
        for mean in means
    ]
    truth = NormalDist().cdf(means[0] / spread) - NormalDist().cdf(means[1] / spread)
    return right[0].astype(np.int8) - right[1].astype(np.int8), truth


def resampled(differences: Differences, rng: np.random.Generator, draws: int = 400) -> Interval:
    """Return the percentile interval of a bootstrap that resamples seeds and reviews."""
    seeds, reviews = differences.shape
    weights = rng.multinomial(seeds, [1 / seeds] * seeds, size=draws) / seeds
    counts = rng.multinomial(reviews, [1 / reviews] * reviews, size=draws) / reviews
    means = np.einsum("ds,sr,dr->d", weights, differences.astype(float), counts, optimize=True)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def intervals(rng: np.random.Generator) -> dict[str, Callable[[Differences], Interval]]:
    """Return the ways to make an interval from several seeds, by name."""

    def components(differences: Differences) -> Interval:
        found = over_seeds_and_reviews(differences)
        return found.low, found.high

    def seeds(differences: Differences) -> Interval:
        found = over_seeds(differences.mean(axis=1).tolist())
        return found.low, found.high

    return {
        "seeds and reviews, variance components": components,
        "seeds and reviews, bootstrap": lambda differences: resampled(differences, rng),
        "seeds alone, Student's t": seeds,
    }


def main() -> None:
    """Print a table of coverages in percent."""
    parser = argparse.ArgumentParser(description="Coverage of 95 % intervals, in percent.")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    ways = intervals(rng)
    held = {name: [0] * len(SEED_EFFECTS) for name in ways}
    for place, effect in enumerate(SEED_EFFECTS):
        for _ in range(arguments.draws):
            differences, truth = draw(rng, arguments.seeds, effect)
            for name, way in ways.items():
                low, high = way(differences)
                held[name][place] += low <= truth <= high
    one = 0
    for _ in range(arguments.draws):
        differences, truth = draw(rng, 1, 0.0)
        found = over_reviews(differences)
        one += found.low <= truth <= found.high
    print(f"| interval | {' | '.join(f'seed effect {effect}' for effect in SEED_EFFECTS)} |")
    print(f"|---|{'---|' * len(SEED_EFFECTS)}")
    print(f"| one seed, bootstrap over reviews | {100 * one / arguments.draws:.1f} |{' |' * (len(SEED_EFFECTS) - 1)}")
    for name, counts in held.items():
        print(f"| {name} | {' | '.join(f'{100 * count / arguments.draws:.1f}' for count in counts)} |")


if __name__ == "__main__":
    main()
