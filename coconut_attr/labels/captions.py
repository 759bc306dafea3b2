"""Captions: lemmas, phrases and negation, turned into evidence.

Lemmas are simplemma's: it is maintained, pure Python, and brings its dictionary along, where spaCy wants a model that
no package registry has.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import simplemma

from coconut_attr.annotations.records import Caption
from coconut_attr.findings import Finding
from coconut_attr.labels.evidence import Evidence, Side
from coconut_attr.labels.rules import Rules

WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
ANY_WORD = re.compile(r"[^\W\d_]+")  # of any script


@lru_cache(maxsize=100_000)
def lemma(word: str) -> str:
    return simplemma.lemmatize(word, lang="en").lower()


@lru_cache(maxsize=100_000)
def is_english(word: str) -> bool:
    return simplemma.is_known(word, lang="en")


class CaptionReader:
    """Finds the attributes that a caption names, or denies. Built once for a set of rules."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules.caption
        named = [(words, {attribute}) for attribute, words in self.rules.lexicon.items()]
        named += [
            (words, set(rules.category[name].present))
            for name, words in self.rules.categories.items()
        ]
        self._lexicon: dict[str, set[str]] = defaultdict(set)
        self._phrases: dict[tuple[str, ...], Sequence[str]] = {}
        for words, names in named:
            for word in words:
                if " " in word:
                    self._phrases[tuple(map(lemma, word.split()))] = sorted(names)
                else:
                    self._lexicon[word] |= names
        self._phrases.update(
            {tuple(map(lemma, phrase.split())): n for phrase, n in self.rules.phrases.items()}
        )
        self._negations = {tuple(words.split()) for words in self.rules.negations}
        self._longest = max(map(len, [*self._phrases, *self._negations]), default=1)

    def readable(self, captions: Sequence[Caption]) -> tuple[list[Caption], list[Finding]]:
        """The captions that can be read, cut where they are too long, and what is wrong with the others.

        Those that cannot be read must not count as silent.
        """
        kept, problems = [], []
        for caption in captions:
            text = caption.text[: self.rules.max_length]
            if len(text) < len(caption.text):
                detail = f"caption {caption.id} has {len(caption.text):,} characters: the first {len(text):,} are read"
                problems.append(Finding("long caption", detail))
            words = ANY_WORD.findall(text.lower())
            english = sum(map(is_english, words))
            if not words:
                problems.append(Finding("empty caption", f"caption {caption.id} has no word"))
            elif english < self.rules.min_english * len(words):
                detail = f"caption {caption.id}: {english} of {len(words)} words are English"
                problems.append(Finding("caption not English", detail))
            else:
                kept.append(replace(caption, text=text))
        return kept, problems

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

    def _named(
        self, words: list[str], lemmas: list[str], position: int
    ) -> tuple[int, Sequence[str]]:
        """Words taken, and the attributes named, at a position: a phrase if one stands there, else a word."""
        length = self._match(self._phrases, lemmas, position)
        if length:
            return length, self._phrases[tuple(lemmas[position : position + length])]
        return 1, sorted(
            self._lexicon.get(words[position], set()) | self._lexicon.get(lemmas[position], set())
        )

    def evidence(self, captions: Sequence[Caption]) -> list[Evidence]:
        """What an image's captions say: for each attribute and state one piece, the surer the more agree.

        Args:
            captions: those of an image that `readable` has kept.
        """
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
            result.append(
                Evidence(attribute, state, "caption", confidence, detail, caption_id=caption.id)
            )
        spoken = {(piece.attribute, piece.state): piece for piece in result}
        for pair in self.rules.exclusive:
            for one, other in (pair, pair[::-1]):
                sign = spoken.get((one, "present"))
                if sign and (other, "present") not in spoken and (other, "absent") not in spoken:
                    detail = f"speaks for {one}: {sign.detail}"
                    against = Evidence(
                        other,
                        "absent",
                        "caption",
                        sign.confidence,
                        detail,
                        caption_id=sign.caption_id,
                    )
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
