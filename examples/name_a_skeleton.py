"""Embed one skeleton and name it: the nearest of some texts.

    pip install -e '.[build,train]'
    python examples/name_a_skeleton.py RUN DATASET walking "sitting down" "raising arms"

RUN is a folder that `tmor_train run` made, trained against text vectors of the same text model as here, the one of
the default pipeline. The skeleton is of the first clip of DATASET; any float32 array (people, frames, joints, 3) of
x, y and score works, with x and y in pixels of a picture of the given `size` (width, height).
"""

import argparse

import posecap
import tmor_train
from posecap.engines.minilm import MiniLM


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", help="a run's folder, or a checkpoint")
    parser.add_argument("dataset")
    parser.add_argument("texts", nargs="+")
    arguments = parser.parse_args()

    index = posecap.index(arguments.dataset)
    clip = posecap.read(arguments.dataset, index.head(1)["key"][0].as_py(), index=index)
    size = clip.facts["width"], clip.facts["height"]

    encoder = tmor_train.load(arguments.run)
    vector = encoder.embed(clip.joints_MTJ3, layout=clip.facts["layout"], size=size)
    print(f"{clip.key}: a vector of {len(vector)} numbers")

    text_vectors = MiniLM().embed_text(arguments.texts)
    for text, cosine in encoder.nearest_texts(vector, texts=arguments.texts, text_vectors=text_vectors):
        print(f"{cosine:6.3f}  {text}")


if __name__ == "__main__":
    main()
