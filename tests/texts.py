"""Sixty texts, each with a property that a tokenizer or an encoder could get wrong."""

from __future__ import annotations

import importlib
import inspect

_SENTENCE = "The harbour was quiet until the ferry came in, and then everybody spoke at once. "

TEXTS: tuple[str, ...] = (
    # Nothing, or next to nothing.
    "",
    " ",
    " \t\n\r  \u00a0\u3000",
    "a",
    ".",
    "?!",
    "7",
    "Z\n",
    # English, from one word to a paragraph.
    "rain",
    "Incomprehensibilities",
    "How do I reset my password?",
    "best ramen near the central station open late",
    "The cat sat on the mat.",
    "THE CAT SAT ON THE MAT!!!",
    "  Leading spaces,   several   inside, and trailing ones   ",
    "She said, “don’t wait for me” — and left…",
    "It's the dog's bowl; they'd've moved it if we'd asked, wouldn't they?",
    "A state-of-the-art, well-thought-out, not-yet-finished re-implementation.",
    (
        "Water boils at a lower temperature on a mountain because the air presses less on it. "
        "Cooks who live high up therefore boil their potatoes longer, or use a pressure cooker."
    ),
    (
        "Dear Ms Okafor,\n\nThank you for your letter of 3 March. The parcel left our warehouse on "
        "Tuesday and should reach you by Friday.\n\nYours sincerely,\nJ. Lindqvist"
    ),
    _SENTENCE * 5,
    # Longer than 256 tokens in different ways: all of these are truncated.
    _SENTENCE * 40,
    "word " * 400,
    "x" * 2000,
    "été " * 300,
    "12345 " * 120,
    "漢字" * 200,
    "!" * 300,
    # Numbers, codes, addresses.
    "3.14159 2,718 1e-9 -40 ½ 10² Ⅸ 0x7fff 1_000_000",
    "Call +44 20 7946 0018 before 17:30 on 2024-02-29.",
    "https://example.org/a/b.html?q=caf%C3%A9&page=2#top",
    "user.name+tag@mail.example.com",
    "def area(r: float) -> float:\n    return 3.14159 * r ** 2  # not exact",
    "SELECT name, COUNT(*) FROM t WHERE x <> 'a''b' GROUP BY 1;",
    '{"id": 17, "tags": ["a", "b"], "ok": true, "none": null}',
    "for (int i = 0; i < n; ++i) { sum += x[i] * y[i]; }",
    "E = mc², ∑ xᵢ ≤ √n, ∀ε>0 ∃δ>0",
    "C:\\Users\\me\\notes.txt \\\\ %PATH% $HOME ~/bin",
    # Accents, precomposed and combining, and letters that change when lower-cased.
    "Crème brûlée, jalapeño, Ångström, naïve façade",
    "Cre\u0300me bru\u0302le\u0301e, jalapen\u0303o, A\u030angstro\u0308m",
    "Z\u0351\u0343\u036b\u0337a\u0322\u0334\u031bl\u0353\u0329\u0308g\u0328\u0315\u0322o\u0489",
    "Straße STRASSE straẞe İstanbul ırı Ǆ ﬁnd ﬃ",
    "ⅠⅡⅢ ＡＢＣ ⓐⓑⓒ 𝕏𝕐 ™ ℃",
    # Other scripts; some vowels are combining marks.
    "Wie spät ist es? Über die Brücke führt ein Fußgängerweg.",
    "Где находится библиотека? Ёлка и йод.",
    "Ο ήλιος ανατέλλει ΣΑΣ σας",
    "今天天气很好，我们去公园散步。",
    "東京タワーはどこですか？ ｶﾞｷﾞ",
    "안녕하세요, 오늘 뭐 해요?",
    "مرحبا بالعالم، ٣٤ كِتابٌ",
    "שלום עולם שָׁלוֹם",
    "नमस्ते, आप कैसे हैं?",
    "สวัสดีครับ กินข้าวหรือยัง",
    "English, русский, 日本語 and العربية in one line",
    # Emoji, symbols, and characters that a tokenizer drops or keeps together.
    "Great job! 👍🏽 👩\u200d💻 🇫🇷 ❤\ufe0f",
    "😀😁😂",
    "a\x00b\x01c\x07d\x1be\x7ff\u0085g",
    "zero\u200bwidth\u200djoin\u2060er\ufeff soft\u00adhyphen \u202eright to left\u202c \ufffd",
    "private \ue000 use, unassigned \U000e0fff, line\u2028paragraph\u2029separators",
    # Text that spells the tokenizer's own special tokens.
    "[CLS] is not [SEP] here, nor is [MASK], [PAD] or [UNK]; ##ing",
)


def many_texts(count: int) -> list[str]:
    """TEXTS, and what Python's own modules say of their functions: short, long, with code in it."""
    texts = dict.fromkeys(TEXTS)
    for name in ("argparse", "collections", "datetime", "difflib", "email.message", "logging"):
        for _, member in inspect.getmembers(importlib.import_module(name)):
            if inspect.isclass(member) or inspect.isfunction(member):
                texts.update(dict.fromkeys(_paragraphs(member)))
    if len(texts) < count:
        raise ValueError(f"there are {len(texts)} texts, not {count}")
    return list(texts)[:count]


def _paragraphs(member: object) -> list[str]:
    members = [member, *(value for _, value in inspect.getmembers(member))]
    docs = [inspect.getdoc(each) or "" for each in members if callable(each)]
    return [" ".join(part.split()) for doc in docs for part in doc.split("\n\n") if len(part) > 20]
