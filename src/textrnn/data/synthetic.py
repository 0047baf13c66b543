"""Generated movie reviews whose label is in the order of the words, not in their counts.

Each review holds the writer's verdict on the film and one opposite opinion: somebody else's, or the writer's own from
before. Both are drawn from the same distribution of opinion words, negators and concessions; only who holds them
differs. So for either label a review has the same expected count of every word, and whoever wants the label must find
the writer's verdict and apply its negation. Around these two stand plain sentences about the film, and further opinions
(of others, on other films, on single aspects) whose polarity is a coin flip.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from itertools import count as count_from
from itertools import islice
from math import gcd
from random import Random
from typing import TypeVar

from textrnn.errors import InputError

GENERATOR_VERSION = 1
"""Part of the token store's fingerprint; bump it whenever the text of any review changes."""

SPLITS = ("train", "validation", "test")
MIN_WORDS, MAX_WORDS = 20, 400

Draw = Callable[[], float]
Template = tuple[str, tuple[str | tuple[str, ...], ...]]


def _table(text: str) -> dict[str, tuple[str, ...]]:
    """Read rows of `name = phrase | phrase | ...`, which may run over several lines."""
    rows = re.findall(r"(\w+) = ([^=]+)(?=\n +\w+ =|\Z)", text)
    return {name: tuple(" ".join(phrase.split()) for phrase in row.split("|")) for name, row in rows}


# What fills the gaps of a sentence, drawn anew at each gap.
_POOLS = _table("""
    aspect = acting | music | photography | pacing | script | dialogue | editing | ending | lighting | casting | score
        | camera work | sound | opening scene | set design | voice-over | humour | love story | middle act | make-up
    other = my brother | my neighbour | my aunt | a friend from work | most critics | the man in the paper | the blogs
        | my flatmate | the people behind us | everyone in the queue | half my family | the lady at the till | the fans
        | my old teacher | the host of a radio show | the festival jury | my daughter | two of my colleagues
        | our landlord | the crowd at the premiere | a stranger on the bus | my better half | the students next door
    subject = it | the film | this film | the movie | this movie | the picture | the whole thing
    day = Monday | Tuesday | Wednesday | Thursday | Friday | Saturday | Sunday
    weather = rainy | windy | warm | cold | foggy | quiet | snowy | late
    seen_at = at the old Regal | with my sister | on a plane | in a half-empty hall | with my cousins | at a matinee
        | in the front row | at a small festival | at a film club | on a long train ride | in a packed house
    job = baker | lighthouse keeper | surgeon | retired boxer | night porter | cellist | tax inspector | ferry pilot
        | young widow | beekeeper | watchmaker | runaway | village doctor | court clerk | tailor | deep-sea diver
    thing = a letter | an old map | a stolen car | a locked suitcase | a violin | a roll of film | a forged will
        | a silver key | a lost dog | a box of photographs | a ship's log | a broken radio | a winning ticket
    deed = hides it from the police | sells the house | learns to dance | misses the last ferry | finds a half-sister
        | takes a job on the docks | writes to the mayor | crosses the border | goes back to school | opens a small inn
        | loses a bet | moves into the attic | follows a stranger home | burns the papers | returns for a funeral
    number = two | three | four | five | six | seven | nine | a dozen
    season = one spring | one summer | one autumn | one winter | a single night | a leap year | the holidays
    family = a sister | a brother | a father | a rival | a neighbour | a cousin | a lodger | an old friend
    genre = thriller | drama | comedy | western | mystery | romance | war film | ghost story | road movie
    place = Lisbon | Oslo | a mining town | Buenos Aires | a fishing village | Prague | the Highlands | Cairo | Montreal
        | a border town | a seaside hotel | Naples | the suburbs | a mountain monastery
    first = Anna | Boris | Clara | Diego | Edith | Farid | Greta | Hugo | Irene | Jonas | Kemal | Lena | Marta | Nils
        | Olga | Pavel | Rosa | Samir | Tilda | Viktor
    last = Aldana | Brandt | Corwin | Delacroix | Eriksen | Falk | Grimaldi | Hallam | Ivers | Janssen | Kovac
        | Lindqvist | Marlowe | Novak | Okafor | Petrov | Quill | Rossi | Sandoval | Thorne | Varga | Winslow
    title_adjective = Silent | Last | Hidden | Crooked | Golden | Second | Paper | Northern | Borrowed | Glass | Hollow
        | Scarlet | Distant | Iron | Midnight | Forgotten | Narrow | Winter
    title_noun = Harbour | Orchard | Letter | Station | River | Garden | Tide | Bridge | Window | Island | Summer
        | Witness | Mirror | Road | Lantern | Crossing | Cellar | Parade
    good = wonderful | superb | brilliant | excellent | charming | gripping | moving | clever | lovely | great | a joy
        | a triumph | a treat | a gem | a masterpiece
    bad = dreadful | dull | awful | terrible | boring | clumsy | tedious | lifeless | silly | bad | a bore
        | a disaster | a mess | a chore | a failure
    negator = not | not at all | far from | anything but | hardly | never
    adverb = | | | really | truly | quite | simply
    tense = is | was
""")
_POOLS["name"] = tuple(f"{first} {last}" for first in _POOLS["first"] for last in _POOLS["last"])
_POOLS["other_title"] = tuple(
    f"{article} {adjective} {noun}"
    for article in ("The", "One", "Beyond the", "My")
    for adjective in _POOLS["title_adjective"]
    for noun in _POOLS["title_noun"]
)

# Drawn once a review, so that its sentences speak of one film. All opinions of a review share one tense, or the tense
# would tell the writer's verdict from the others.
_FACTS = {"title": "other_title", "director": "name", "star": "name", "hero": "first"}
_FACTS |= {fact: fact for fact in ("genre", "place", "tense")}

# Opinions by (polarity of the opinion word itself, whether a negator stands before it).
_PREDICATES = {
    (positive, negated): tuple(f"{modifier} {word}".strip() for modifier in modifiers for word in words)
    for positive, words in ((True, _POOLS["good"]), (False, _POOLS["bad"]))
    for negated, modifiers in ((True, _POOLS["negator"]), (False, _POOLS["adverb"]))
}

# {view} is an opinion, {reverse} one of the opposite polarity, {claim} is "the film was {view}". Negated frames stand
# around an opinion without a negator. Words that tell the holder never stand right beside an opinion, or pairs of words
# would give the label.
_SENTENCES = _table("""
    opening = {title} is a {genre} by {director}, set in {place}. | {director} has made a {genre} called {title}.
        | I saw {title} {seen_at} last {day}. | In {title}, {star} plays {hero}, a {job} in {place}.
        | {title}, the new {genre} with {star}, opened last {day}. | Some notes on {title}, a {genre} from {place}.
    plain = {hero} finds {thing} and {deed}. | The story begins in {place}, where {hero} works as a {job}.
        | {star} plays a {job} who {deed}. | Then a {job} turns up with {thing}, and nobody knows why.
        | There are {number} scenes in the rain and {number} in a kitchen. | It has {number} chapters.
        | We watched it {seen_at} on a {weather} {day}. | I have not read the book.
        | {name} wrote the script with {director}. | {hero} has {family} who {deed}.
        | The action takes place over {season}, mostly in {place}. | {name} has a small part as a {job}.
        | The camera stays close to {hero} while a {job} counts the money. | There is a dog in it, and {number} horses.
        | Halfway through, {hero} {deed}, and {family} leaves town. | The film was shot in {place} during {season}.
        | {director} also appears for a moment, holding {thing}. | {name} did the photography and {name} the music.
        | When {hero} comes home, {thing} is gone. | {star} spent {number} months with a {job} to prepare for the part.
        | No one in the village trusts the {job}. | A {job} and a {job} argue about {thing} for {number} minutes.
        | The title refers to {thing} that {hero} never opens. | I was {seen_at} and did not eat anything.
        | By then {hero} is {number} days late, and the {job} {deed}. | {name}, who plays {family}, comes from {place}.
        | It is the first {genre} that {director} has shot in {place}. | Outside it was {weather}, and we walked home.
        | {hero} owes {number} thousand to a {job}, so {hero} {deed}. | The credits list {number} editors and a {job}.
        | The story jumps back {number} years, to {season} in {place}. | {star} sings {number} songs about {thing}.
        | Not a word is spoken in the first {number} minutes. | A {weather} {day} ends with {thing} in a lake.
    aspect_view = The {aspect} {tense} {view}. | In places the {aspect} {tense} {view}.
        | The {aspect} {tense} {view}, but the {aspect} {tense} {reverse}.
        | The {aspect} {tense} {view}, yet the {aspect} {tense} {reverse}.
    film_view = {other_title}, which {name} made years ago, {tense} {view}.
        | The book by {name} {tense} {view}. | The other {genre} of this year, {other_title}, {tense} {view}.
        | I also know {other_title} by {name}, and that one {tense} {view}.
    concession = the {aspect} {tense} {reverse}; even so, | the {aspect} {tense} {reverse}; all the same,
        | the {aspect} {tense} {reverse}; still,
    writer_short = all in all, I found it {view} | in the end I found it {view} | my verdict: I call it {view}
        | to sum up, I thought it {view} | on balance, I found it {view} | taken as a whole, I call it {view}
    writer_short_negated = all in all, I did not find it {view} | in the end I would not call it {view}
        | on balance, I cannot call it {view} | to sum up, I never thought it {view}
    writer_long = all in all, I think that {claim} | in the end I think that {claim} | my verdict is that {claim}
        | to sum up, I would say that {claim} | if you ask me, {claim} | my final word is that {claim}
        | taken as a whole, I feel that {claim} | on balance, I find that {claim} | {claim}, or so I see it today
        | having slept on it, I am sure that {claim} | as far as I am concerned, {claim}
    writer_long_negated = all in all, I do not think that {claim} | in the end I would not say that {claim}
        | on balance, I cannot say that {claim} | taken as a whole, I would never say that {claim}
    other_short = {other} found it {view} | {other} called it {view} | {other} thought it {view}
        | unlike me, {other} found it {view} | as so often, {other} called it {view}
    other_short_negated = {other} did not find it {view} | {other} would not call it {view}
        | {other} could not call it {view} | {other} never thought it {view}
    other_long = {other} said that {claim} | {other} told me that {claim} | {other} insisted that {claim}
        | according to {other}, {claim} | if you believe {other}, {claim} | the trailer promised that {claim}
        | the poster claimed that {claim} | at first I thought that {claim} | going in, I was sure that {claim}
        | for half an hour I believed that {claim} | {claim}, or so {other} said | {other} wrote that {claim}
    other_long_negated = {other} did not think that {claim} | {other} would not say that {claim}
        | {other} would never say that {claim} | at first I did not think that {claim}
    disagreement = I cannot agree with {other}, who said that {claim}
        | {other} and I differ: I was told that {claim} | I do not share the view of {other} that {claim}
""")


def _template(sentence: str) -> Template:
    """Parse a sentence into a %-format and what fills it: a pool to draw from, or the name of a fact of the review."""
    parts = re.split(r"\{(\w+)\}", sentence)
    return "%s".join(parts[::2]), tuple(name if name in _FACTS else _POOLS.get(name, name) for name in parts[1::2])


_TEMPLATES = {kind: tuple(_template(sentence) for sentence in sentences) for kind, sentences in _SENTENCES.items()}
# The opinion that the writer rejects is another's; now and then the writer also says so.
_TEMPLATES |= {f"rejected{kind[5:]}": _TEMPLATES[kind] for kind in _SENTENCES if kind.startswith("other_")}
_TEMPLATES["rejected_long"] += _TEMPLATES["disagreement"]
# Steps that visit every plain sentence once before any comes again.
_STRIDES = tuple(step for step in range(1, len(_TEMPLATES["plain"])) if gcd(step, len(_TEMPLATES["plain"])) == 1)
_Choice = TypeVar("_Choice")


def _pick(draw: Draw, choices: Sequence[_Choice]) -> _Choice:
    return choices[int(draw() * len(choices))]


class _Reviewer:
    """The facts and sentences of one review. All chance comes from `draw`, uniform on [0, 1)."""

    def __init__(self, draw: Draw, difficulty: float) -> None:
        self.draw = draw
        self.negated_share = 0.1 + 0.35 * difficulty
        self.long_share = 0.1 + 0.8 * difficulty
        self.conceding_share = 0.4 * difficulty
        self.opinionated_share = 0.1 + 0.5 * difficulty
        self.facts = {fact: _pick(draw, _POOLS[pool]) for fact, pool in _FACTS.items()}
        self.plain = int(draw() * len(_TEMPLATES["plain"]))
        self.stride = _pick(draw, _STRIDES)

    def fill(self, kind: str) -> str:
        """A sentence of a kind with its gaps filled; plain ones don't come again before all have come."""
        draw, facts = self.draw, self.facts
        templates = _TEMPLATES[kind]
        if kind == "plain":
            self.plain = (self.plain + self.stride) % len(templates)
            pattern, slots = templates[self.plain]
        else:
            pattern, slots = _pick(draw, templates)
        return pattern % tuple([facts[slot] if isinstance(slot, str) else _pick(draw, slot) for slot in slots])

    def view(self, positive: bool) -> str:
        """Words that say good (`positive`) or bad, perhaps by the negation of the opposite."""
        negated = self.draw() < self.negated_share
        return _pick(self.draw, _PREDICATES[positive != negated, negated])

    def opinion(self, positive: bool, holder: str) -> str:
        """Somebody's opinion of the film: one process for the writer and for all others, but for the frames."""
        draw, facts = self.draw, self.facts
        frames = f"{holder}_long" if draw() < self.long_share else f"{holder}_short"
        # A third of the negations stand in the frame: "I would not say that the film is bad".
        if draw() < self.negated_share / 3:
            frames += "_negated"
            facts["view"] = _pick(draw, _PREDICATES[not positive, False])
        else:
            facts["view"] = self.view(positive)
        facts["claim"] = f"{_pick(draw, _POOLS['subject'])} {facts['tense']} {facts['view']}"
        text = self.fill(frames)
        if draw() < self.conceding_share:
            facts["reverse"] = self.view(not positive)
            text = f"{self.fill('concession')} {text}"
        return f"{text}."

    def filler(self) -> str:
        """A sentence that is the same for either label: plain, or an opinion by the flip of a coin."""
        if self.draw() >= self.opinionated_share:
            return self.fill("plain")
        positive = self.draw() < 0.5
        kind = self.draw()
        if kind < 0.4:
            return self.opinion(positive, "other")
        self.facts["view"], self.facts["reverse"] = self.view(positive), self.view(not positive)
        return self.fill("aspect_view" if kind < 0.8 else "film_view")


def _compose(draw: Draw, difficulty: float) -> tuple[str, int]:
    label = draw() < 0.5
    # Reviews differ in how hard they are: none is at difficulty 0, all are as hard as can be at 1. The easy ones in
    # between are what a network learns first.
    hardness = draw() ** (2 * (1 - difficulty) / difficulty) if difficulty else 0.0
    reviewer = _Reviewer(draw, hardness)
    verdict = reviewer.opinion(label, "writer")
    rejected = reviewer.opinion(not label, "rejected")
    words = len(verdict.split()) + len(rejected.split())
    # The mean of two draws, bent by the exponent: short reviews are the most frequent, all lengths occur.
    target = MIN_WORDS + (MAX_WORDS - MIN_WORDS) * ((draw() + draw()) / 2) ** (6 - 5 * hardness)
    late_share = 0.5 * hardness + draw() * (0.1 + 0.4 * hardness)
    room_after = late_share * (target - words)
    before: list[str] = []
    after: list[str] = []
    while words < target:
        sentence = reviewer.filler() if before else reviewer.fill("opening")
        length = len(sentence.split())
        if words + length > MAX_WORDS:
            break
        words += length
        if before and length <= room_after:
            room_after -= length
            after.append(sentence)
        else:
            before.append(sentence)
    if draw() < late_share:
        after.insert(int(draw() * (len(after) + 1)), rejected)
    else:
        # After the opening, which names the film.
        before.insert(1 + int(draw() * len(before)), rejected)
    return " ".join([text[0].upper() + text[1:] for text in (*before, verdict, *after)]), int(label)


def _check(split: str, index: int, difficulty: float) -> None:
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; the generator's splits are {', '.join(SPLITS)}")
    if index < 0:
        raise ValueError(f"review {index} of split {split!r} does not exist; the first is 0")
    if not 0 <= difficulty <= 1:
        raise InputError(f"data.synthetic.difficulty={difficulty} is not a number from 0 (easy) to 1 (hard); try 0.5")


def _generate(seed: int, split: str, index: int, difficulty: float) -> tuple[str, int]:
    # Without the difficulty: review i has the same label at each. Only Random.random is drawn from: Python promises its
    # numbers, unlike those of Random's other methods, to be the same in every version.
    digest = blake2b(f"{seed}/{split}/{index}".encode(), digest_size=8).digest()
    return _compose(Random(int.from_bytes(digest, "big")).random, difficulty)


def generate_review(seed: int, split: str, index: int, difficulty: float) -> tuple[str, int]:
    """Review `index` of a split: its text, of 20 to 400 words, and its label (1 positive, 0 negative).

    It depends on the arguments alone, so any review can be had without those before it. `difficulty` in [0, 1] makes
    negated verdicts, concessions and other opinions more frequent, reviews longer, and the verdict further from the
    end. Raises InputError for a difficulty outside [0, 1], ValueError for an unknown split or a negative index.
    """
    _check(split, index, difficulty)
    return _generate(seed, split, index, difficulty)


def generate_reviews(
    seed: int, split: str, difficulty: float, start: int = 0, count: int | None = None
) -> Iterator[tuple[str, int]]:
    """Reviews `start`, `start + 1`, ... of a split as (text, label): `count` of them, or without end if it is None.

    Raises as `generate_review` does, at the call and not at the first review.
    """
    _check(split, start, difficulty)
    reviews = (_generate(seed, split, index, difficulty) for index in count_from(start))
    return islice(reviews, count)
