"""English labels as what a person does: ``brush hair`` gives ``brushing hair``, ``push-ups`` gives ``doing push-ups``.

Three kinds are known: activities in -ing, verbs in their base form, and names of exercises, strokes and games. The
words are those of the labels of Kinetics, NTU RGB+D, UCF101, HMDB51 and Penn Action. Any other label has no phrase,
since a guess makes sentences such as "a person is kitchen": codes (``A001``, ``class 12``), what is not done
(``no fight``) and words that are in no list.
"""

from __future__ import annotations

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_VERBS = _words(
    """
    answer apply ask assemble attack bake bat beat bend blow board boil bounce bow bowl box braid break breathe bring
    brush build burn button buy call carry catch change chase check cheer chew chop clap clean clear climb close comb
    cook cough count cover crawl cross cry curl cut dance dig dip dive do drag draw dress dribble drink drive drop
    drum dry duck eat enter exit fall feed fight fill fish fix flip float fly fold follow get give grab greet grind
    hang headbutt hit hold hop hug hurl inflate jog juggle jump kick kiss kneel knit knock land laugh lay lead lean
    leap leave lick lie lift light listen load look make march massage mix mop move nod open pack paint parachute pass
    pat pay peel pet pick pitch play plug point pour praise pray press pull punch push put rake reach read ride ring
    rip rob roll row rub run sail salute say scrub search send serve set sew shake sharpen shave shoot shop shout
    shovel shred shrug sing sip sit skate ski skip slap sleep slice slide smell smile smoke snap sneeze snowboard spin
    spit split spray sprint squat squeeze stack stagger stand staple start steal steer step stir stop stretch strike
    strum surf sweep swim swing take talk tap tear tell text think throw tickle tie toss touch train trap trim turn
    type unbox unload use vacuum vault vomit wait walk wash watch water wave wax wear weave weld whip whisper whistle
    wink wipe work wrap wrestle write yawn yell zip
    """
)
_ACTIVITIES = _words(
    """
    acrobatics aerobics aikido archery athletics backflips backstroke ballet breakdance breaststroke burpees
    butterflystroke calisthenics capoeira cartwheels chinups cleanandjerk crossfit crunches deadlifts dips exercise
    exercises fitness frontcrawl frontflips gymnastics handstands hulahoop jiujitsu judo jumpingjacks karate kendo
    krav kungfu lunges parkour pilates planks polevault pullups pushups qigong shotput situps snatch somersaults sport
    sports squats stretches swordexercise taekwondo taichi tricking yoga zumba
    """
)
"""Done without an article, spaces and hyphens left out."""
_ACTS = _words(
    """
    armwave backflip backhand bodyslam burpee cartwheel catch chinup crunch curl dance deadlift dip dunk flicflac flip
    forehand frontflip handspring handstand headstand jump jumpingjack kick kickflip layup lunge massage moonwalk
    penalty pirouette pitch plank press pullup punch pushup roll run serve shot situp smash somersault spin split
    squat swing tackle throw vault volley walk
    """
)
"""Done with an article, spaces and hyphens left out."""
_PLAYED = _words(
    """
    accordion badminton bagpipes baseball basketball billiards cello chess clarinet cricket daf darts dhol didgeridoo
    dodgeball drums flute football golf guitar handball harmonica harp hockey hopscotch keyboard kickball lacrosse
    netball paintball piano poker polo pool recorder rugby saxophone sitar soccer softball squash tabla tennis
    trombone trumpet ukulele violin volleyball xylophone
    """
)
# Words that end in -ing and say of nobody what he does.
_NOT_IN_ING = _words(
    """
    anything bring ceiling cling clothing darling duckling during earring evening everything fling king lightning
    morning nothing ping pudding ring sing sling something spring sting string swing thing wedding wing wring
    """
)
# These do where other words follow, as in "building sandcastles".
_ALONE_A_THING = frozenset({"building", "crossing", "landing", "setting", "warning"})
_OTHERS = _words(
    """
    adult animal baby band boy cat child children couple crowd dog dogs girl group kid man men people person somebody
    someone woman women
    """
)
"""Who does it, in labels of which that is the first word: a person does not."""
_NEGATIONS = frozenset({"no", "non", "none", "not", "without"})
_ASIDE = re.compile(r"\([^()]*\)")
# Verbs of one vowel and one consonant after it, as "run".
_DOUBLED = re.compile(r"(?:[^aeiou]|qu)*[aeiou][bdglmnprtvz]")


def action_phrase(words: str) -> str | None:
    """What a person does, to follow "a person is"; None for labels of no known kind.

    It takes words with spaces between them, as :func:`posecap.stages.caption.label_words` makes of a label (not
    ``brush_hair``). Alternatives with a slash are joined by "or", and what stands in parentheses is left out. The first
    word loses its capital, and so do the others where all of more than three letters have one.
    """
    plain = _uncapitalised(_ASIDE.sub(" ", words))
    alternatives = [part.split() for part in plain.split("/")]
    if not all(alternatives) or any(character.isdigit() for character in plain):
        return None
    first = _phrase(alternatives[0])
    return (
        None if first is None else " or ".join([first, *(_phrase(part) or " ".join(part) for part in alternatives[1:])])
    )


def _phrase(words: list[str]) -> str | None:
    written, plain = " ".join(words), [word.lower().strip(".,") for word in words]
    if _NEGATIONS & {*plain} or plain[0] in _OTHERS or not all(plain):
        return None
    if "-".join(plain) in _ALONE_A_THING:
        return None
    whole, *endings = ("".join(plain[start:]).replace("-", "") for start in (0, -2, -1))
    with_article = f"doing {'an' if written[0].lower() in 'aeiou' else 'a'} {written}"
    if whole in _ACTIVITIES or plain[-1] in ("ups", "downs"):
        return f"doing {written}"
    if whole in _ACTS - _VERBS:
        return with_article
    if _is_gerund(plain[0]) or (len(plain) > 1 and _is_gerund(plain[1])):  # swing dancing
        return written
    if plain[0] in _VERBS:
        verbs = 2 if plain[:2] == ["blow", "dry"] else 1
        return " ".join([*words[: verbs - 1], gerund(plain[verbs - 1]), *words[verbs:]])
    if not _ACTIVITIES.isdisjoint(endings):
        return f"doing {written}"
    if plain[-1] in _PLAYED:
        return f"playing {written}"
    if _is_gerund(plain[-1]):
        return written
    return None if _ACTS.isdisjoint(endings) else with_article


def gerund(verb: str) -> str:
    """The -ing form of a verb's base form: brushing, riding, running, lying.

    A final consonant is doubled in verbs of one syllable only: "begin" would give "begining", so such verbs cannot be
    added to the list.
    """
    if verb.endswith("ie"):
        return f"{verb[:-2]}ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")):
        return f"{verb[:-1]}ing"
    return f"{verb}{verb[-1] if _DOUBLED.fullmatch(verb) else ''}ing"


def _is_gerund(word: str) -> bool:
    return len(word) > 4 and word.endswith("ing") and word not in _NOT_IN_ING


def _uncapitalised(words: str) -> str:
    """The words in lower case where they are capitalised as in a title or a sentence; acronyms and names stay."""
    parts = words.split()
    titled = all(part[:1].isupper() for part in parts if len(part) > 3)
    return " ".join(
        part.lower() if part[1:].islower() and (titled or number == 0) else part for number, part in enumerate(parts)
    )
