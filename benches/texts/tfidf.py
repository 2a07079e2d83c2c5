#!/usr/bin/env python3
"""Accuracy of TF-IDF and a linear classifier on a split of texts, to compare a BERT encoder with.

    pip install scikit-learn==1.9.1
    tfidf.py data/vader-movies

The classifier is the one of several that is best on the validation texts; both figures are printed for each.
"""

import csv
import sys
from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return [row["text"] for row in rows], [row["label"] for row in rows]


def main(folder):
    train, validation, test = (read(Path(folder) / f"{part}.tsv") for part in ["train", "validation", "test"])
    results = []
    for words in [{}, {"ngram_range": (1, 2), "sublinear_tf": True}]:
        for linear in [*(LogisticRegression(C=c, max_iter=1000) for c in (1, 4, 16)), *(LinearSVC(C=c) for c in (0.25, 1))]:
            model = make_pipeline(TfidfVectorizer(**words), linear).fit(*train)
            results.append((model.score(*validation), model.score(*test), f"{words or 'words'} {linear}"))
            print("validation {:.4f} test {:.4f} {}".format(*results[-1]), flush=True)
    print("best on validation: validation {:.4f} test {:.4f} {}".format(*max(results)))


if __name__ == "__main__":
    main(*sys.argv[1:])
