"""Which texts are not English: by their script, by common English words, and only then by a language identifier.

The identifier is py3langid (naive Bayes over byte n-grams, Lui and Baldwin 2011), whose model is in its package. Restricted to languages of
many speakers, it finds the relatives of the others too, and takes names and slang for another language less often.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from kernels.types import I64, Bool
from training.models.emotion.encoder import WORDS, Pieces, tokenizer

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

ENGLISH = "en"
_LANGUAGES = "ar bg cs da de el en es et fa fi fr he hi hr hu id it ja ko lt lv nl no pl pt ro ru sk sl sr sv th tr uk vi zh"
LANGUAGES = tuple(_LANGUAGES.split())
MAX_ENGLISH = 0.02  # probability of English below which a text is taken for another language
MIN_WORDS, MIN_LETTERS = 3, 10  # of a text in Latin letters, to be identified at all
MIN_FOREIGN_LETTERS = 2  # of another script, and more than the Latin ones
MAX_LETTERS = 600  # of a text that the identifier reads
WORDS_PER_ENGLISH_WORD = 6  # a text with one common English word in so many words is English
LAST_LATIN = 0x24F  # the last code point of Latin Extended-B; Vietnamese letters are decomposed into these

# Frequent in English, and rare in the other languages also without their accents.
_COMMON = (
    "the and you your this that these those with what when where which how why they them their there would could should been "
    "being haven having does doesn didn isn wasn aren don won just from please thank thanks never nothing anything something "
    "everything anyone someone because after before again still about another other only very really want need know think "
    "received ordered delivery delivered money back today yesterday tomorrow week weeks month months get got getting my our "
    "its if can cannot any yes always too much many more than then now here good great love customer broken wrong awesome lol "
    "lmao omg haha hahaha sorry"
)
COMMON = frozenset(_COMMON.split())
_NOISE = re.compile(r"https?://\S+|www\.\S+|\S+@\S+|\S*\d\S*|[@#]\S+|\[[^\]]*\]")
_WORD = re.compile(r"[^\W\d_]+")


def foreign(texts: Sequence[str], given: Pieces) -> Bool:
    """Return whether each text is not in English, bool [texts]; given: their word pieces. Too little text counts as English."""
    words, common = _counts(given)
    out = np.zeros(len(texts), bool)
    for text in np.flatnonzero((common * WORDS_PER_ENGLISH_WORD < words) | (words == 0)).tolist():
        out[text] = _identified(texts[text])
    return out


def _identified(text: str) -> bool:
    """Return whether a text without enough common English words is in another language."""
    read = _NOISE.sub(" ", unicodedata.normalize("NFKC", text[:MAX_LETTERS]))
    words = _WORD.findall(read)
    letters = unicodedata.normalize("NFD", "".join(words))
    other = sum(letter > chr(LAST_LATIN) and letter.isalpha() for letter in letters)
    latin = sum(letter <= chr(LAST_LATIN) for letter in letters)
    if other >= MIN_FOREIGN_LETTERS and other > latin:
        return True
    if len(words) < MIN_WORDS or latin < MIN_LETTERS:
        return False
    return bool(dict(identifier().rank(" ".join(words).lower()))[ENGLISH] < MAX_ENGLISH)


def _counts(given: Pieces) -> tuple[I64, I64]:
    """Return how many words each text has, and how many of them are common English ones, int64 [texts] each."""
    whole, common = _vocabulary()
    begins = given.offsets[:-1]  # every text has two special pieces, so that no segment is empty
    return np.add.reduceat(whole[given.ids], begins), np.add.reduceat(common[given.ids], begins)


@cache
def _vocabulary() -> tuple[I64, I64]:
    """Return for each word piece whether a word begins with it, and whether it is a common English word, int64 [WORDS] each."""
    whole, common = np.zeros(WORDS, np.int64), np.zeros(WORDS, np.int64)
    for piece, place in tokenizer().get_vocab(with_added_tokens=False).items():
        whole[place], common[place] = piece[0].isalpha(), piece in COMMON
    return whole, common


@cache
def identifier() -> "LanguageIdentifier":
    """Return the identifier, restricted to LANGUAGES."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    loaded = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    loaded.set_languages(LANGUAGES)
    return loaded
