"""The words and sentences of generated reviews, which `synthetic.py` composes."""

import re


def _table(text: str) -> dict[str, tuple[str, ...]]:
    """Read rows of `name = phrase | phrase | ...`, which may run over several lines."""
    rows = re.findall(r"(\w+) = ([^=]+)(?=\n +\w+ =|\Z)", text)
    return {name: tuple(" ".join(phrase.split()) for phrase in row.split("|")) for name, row in rows}


# Fillings of a sentence's gaps, drawn for each gap.
POOLS = _table("""
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
POOLS["name"] = tuple(f"{first} {last}" for first in POOLS["first"] for last in POOLS["last"])
POOLS["other_title"] = tuple(
    f"{article} {adjective} {noun}"
    for article in ("The", "One", "Beyond the", "My")
    for adjective in POOLS["title_adjective"]
    for noun in POOLS["title_noun"]
)

# Drawn once per review, so that its sentences are about one film. All opinions of a review share one tense, or the
# tense would distinguish the writer's verdict from the others.
FACTS = {"title": "other_title", "director": "name", "star": "name", "hero": "first"}
FACTS |= {fact: fact for fact in ("genre", "place", "tense")}

# Opinions by (polarity of the opinion word itself, whether it is negated).
PREDICATES = {
    (positive, negated): tuple(f"{modifier} {word}".strip() for modifier in modifiers for word in words)
    for positive, words in ((True, POOLS["good"]), (False, POOLS["bad"]))
    for negated, modifiers in ((True, POOLS["negator"]), (False, POOLS["adverb"]))
}

# {view} is an opinion, {reverse} one of the opposite polarity, {claim} is "the film was {view}". Negated frames enclose
# an opinion without a negator. Words that identify the holder are never adjacent to an opinion, or pairs of words would
# give the label.
SENTENCES = _table("""
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
