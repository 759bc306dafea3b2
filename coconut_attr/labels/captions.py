"""Captions: evidence from lemmas, phrases and negation.

simplemma lemmatizes: it is maintained, pure Python and ships its dictionary. spaCy needs a model
that package registries do not have.
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
ANY_WORD = re.compile(r"[^\W\d_]+")  # in any script


@lru_cache(maxsize=100_000)
def lemma(word: str) -> str:
    return simplemma.lemmatize(word, lang="en").lower()


@lru_cache(maxsize=100_000)
def is_english(word: str) -> bool:
    return simplemma.is_known(word, lang="en")


class CaptionReader:
    """Finds the attributes that captions mention or negate; built once for a set of rules."""

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
        """Return the captions that can be read, truncated if too long, and findings about the rest.

        Unreadable captions must not count as silent about an attribute.
        """
        readable, findings = [], []
        for caption in captions:
            text = caption.text[: self.rules.max_length]
            if len(text) < len(caption.text):
                length, limit = len(caption.text), len(text)
                detail = f"caption {caption.id} has {length:,} characters; {limit:,} are read"
                findings.append(Finding("long caption", detail))
            words = ANY_WORD.findall(text.lower())
            english = sum(map(is_english, words))
            if not words:
                findings.append(Finding("empty caption", f"caption {caption.id} has no word"))
            elif english < self.rules.min_english * len(words):
                detail = f"caption {caption.id}: {english} of {len(words)} words are English"
                findings.append(Finding("caption not English", detail))
            else:
                readable.append(replace(caption, text=text))
        return readable, findings

    def read(self, text: str) -> dict[str, tuple[Side, str]]:
        """Return the attributes that a caption mentions: name -> (state, the words that say so)."""
        words = WORD.findall(text.lower())
        lemmas = [lemma(word) for word in words]
        mentions: dict[str, tuple[Side, str]] = {}
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
                step, names = self._attributes(words, lemmas, position)
                mention = " ".join(words[position : position + step])
                for name in names:
                    if position < negated_until:
                        mentions.setdefault(name, ("absent", f"{negated} {mention}"))
                    else:
                        mentions[name] = ("present", mention)
            position += step
        return mentions

    def _match(self, entries, words: list[str], position: int) -> int:
        """Return the number of words of the longest entry at a position; 0 without a match."""
        for length in range(self._longest, 0, -1):
            if tuple(words[position : position + length]) in entries:
                return length
        return 0

    def _attributes(
        self, words: list[str], lemmas: list[str], position: int
    ) -> tuple[int, Sequence[str]]:
        """Return the number of words of the phrase (or word) at a position, and its attributes."""
        length = self._match(self._phrases, lemmas, position)
        if length:
            return length, self._phrases[tuple(lemmas[position : position + length])]
        return 1, sorted(
            self._lexicon.get(words[position], set()) | self._lexicon.get(lemmas[position], set())
        )

    def evidence(self, captions: Sequence[Caption]) -> list[Evidence]:
        """Collect evidence from an image's captions.

        An attribute and state have one piece; its confidence grows with the captions that agree.

        Args:
            captions: of one image, as `readable` returns them.
        """
        votes: dict[tuple[str, Side], list[tuple[Caption, str]]] = defaultdict(list)
        for caption in captions:
            for attribute, (state, words) in self.read(caption.text).items():
                votes[attribute, state].append((caption, words))
        evidence = []
        for (attribute, state), voters in votes.items():
            base = self.rules.confidence if state == "present" else self.rules.negated_confidence
            confidence = min(0.95, base + self.rules.agreement * (len(voters) - 1))
            caption, words = voters[0]
            detail = f'"{words}" in {len(voters)} of {len(captions)} captions'
            evidence.append(
                Evidence(attribute, state, "caption", confidence, detail, caption_id=caption.id)
            )
        present = {piece.attribute: piece for piece in evidence if piece.state == "present"}
        mentioned = {piece.attribute for piece in evidence}
        for pair in self.rules.exclusive:
            for one, other in (pair, pair[::-1]):
                if one in present and other not in mentioned:
                    reason = present[one]
                    detail = f"speaks for {one}: {reason.detail}"
                    evidence.append(replace(reason, attribute=other, state="absent", detail=detail))
        silence = self.rules.silence
        if len(captions) >= silence.min_captions:
            mentioned = {piece.attribute for piece in evidence}
            detail = f"named in none of {len(captions)} captions"
            evidence += [
                Evidence(attribute, "absent", "caption", silence.confidence, detail)
                for attribute in silence.attributes
                if attribute not in mentioned
            ]
        return evidence
