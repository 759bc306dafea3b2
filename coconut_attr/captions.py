"""Captions: lemmas, phrases and negation, turned into evidence.

Lemmas are simplemma's: it is maintained, pure Python, and brings its dictionary along, where spaCy wants a model that
no package registry has.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

import simplemma

from coconut_attr.evidence import Evidence, Side
from coconut_attr.rules import Rules
from coconut_attr.sources.records import Caption

WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")


@lru_cache(maxsize=100_000)
def lemma(word: str) -> str:
    return simplemma.lemmatize(word, lang="en").lower()


class CaptionReader:
    """Finds the attributes that a caption names, or denies. Built once for a set of rules."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules.caption
        named = [(words, {attribute}) for attribute, words in self.rules.lexicon.items()]
        named += [(words, set(rules.category[name].present)) for name, words in self.rules.categories.items()]
        self._lexicon: dict[str, set[str]] = defaultdict(set)
        self._phrases: dict[tuple[str, ...], Sequence[str]] = {}
        for words, names in named:
            for word in words:
                if " " in word:
                    self._phrases[tuple(map(lemma, word.split()))] = sorted(names)
                else:
                    self._lexicon[word] |= names
        self._phrases.update({tuple(map(lemma, phrase.split())): n for phrase, n in self.rules.phrases.items()})
        self._negations = {tuple(words.split()) for words in self.rules.negations}
        self._longest = max(map(len, [*self._phrases, *self._negations]), default=1)

    def read(self, text: str) -> dict[str, tuple[Side, str]]:
        """Attributes that one caption speaks of: name -> (state, the words that say so)."""
        words = WORD.findall(text.lower())
        lemmas = [lemma(word) for word in words]
        found: dict[str, tuple[Side, str]] = {}
        position, negated_until, negated = 0, -1, ""
        while position < len(words):
            step = 1
            negation = self._match(self._negations, words, position)
            if negation:
                step = negation
                negated_until = position + step + self.rules.negation_scope
                negated = " ".join(words[position : position + step])
            else:
                if words[position] in self.rules.negation_ends:
                    negated_until = position
                step, names = self._named(words, lemmas, position)
                spoken = " ".join(words[position : position + step])
                for name in names:
                    if position < negated_until:
                        found.setdefault(name, ("absent", f"{negated} {spoken}"))
                    else:
                        found[name] = ("present", spoken)
            position += step
        return found

    def _match(self, entries, words: list[str], position: int) -> int:
        """Number of words of the longest entry that stands at a position; 0: none does."""
        for length in range(self._longest, 0, -1):
            if tuple(words[position : position + length]) in entries:
                return length
        return 0

    def _named(self, words: list[str], lemmas: list[str], position: int) -> tuple[int, Sequence[str]]:
        """Words taken, and the attributes named, at a position: a phrase if one stands there, else a word."""
        length = self._match(self._phrases, lemmas, position)
        if length:
            return length, self._phrases[tuple(lemmas[position : position + length])]
        return 1, sorted(self._lexicon.get(words[position], set()) | self._lexicon.get(lemmas[position], set()))

    def evidence(self, captions: Sequence[Caption]) -> list[Evidence]:
        """What an image's captions say: for each attribute and state one piece, the surer the more agree."""
        votes: dict[tuple[str, Side], list[tuple[Caption, str]]] = defaultdict(list)
        for caption in captions:
            for attribute, (state, words) in self.read(caption.text).items():
                votes[attribute, state].append((caption, words))
        result = []
        for (attribute, state), voters in votes.items():
            base = self.rules.confidence if state == "present" else self.rules.negated_confidence
            confidence = min(0.95, base + self.rules.agreement * (len(voters) - 1))
            caption, words = voters[0]
            detail = f'"{words}" in {len(voters)} of {len(captions)} captions'
            result.append(Evidence(attribute, state, "caption", confidence, detail, caption_id=caption.id))
        spoken = {(piece.attribute, piece.state): piece for piece in result}
        for pair in self.rules.exclusive:
            for one, other in (pair, pair[::-1]):
                sign = spoken.get((one, "present"))
                if sign and (other, "present") not in spoken and (other, "absent") not in spoken:
                    detail = f"speaks for {one}: {sign.detail}"
                    against = Evidence(other, "absent", "caption", sign.confidence, detail, caption_id=sign.caption_id)
                    result.append(against)
        silence = self.rules.silence
        if len(captions) >= silence.min_captions:
            heard = {piece.attribute for piece in result}
            detail = f"named in none of {len(captions)} captions"
            result += [
                Evidence(attribute, "absent", "caption", silence.confidence, detail)
                for attribute in silence.attributes
                if attribute not in heard
            ]
        return result
