"""Build a dataset from a folder of videos; sub-folders are labels, and train, val and test are splits.

    pip install -e '.[build]'
    python examples/build_from_folder.py VIDEOS --license CC-BY-4.0 --contact you@example.org

The same by hand: `posecap manifest folder VIDEOS`, fill in the manifest, `posecap build --manifest …`.
"""

import argparse
from pathlib import Path

import yaml

import posecap
from posecap.build import Options, build
from posecap.builtin import pipeline_path
from posecap.manifest.importers import from_folder
from posecap.manifest.manifest_file import read_manifest


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("videos", type=Path)
    parser.add_argument("--license", required=True, help="of the dataset")
    parser.add_argument("--contact", required=True, help="whom people in the videos can reach")
    parser.add_argument("--manifest", type=Path, default=Path("mine.yaml"))
    parser.add_argument("--pipeline", default="default")
    arguments = parser.parse_args()

    # Writes a table with a row for each video, and the manifest (YAML), which names the table and the pipeline. Those
    # of an earlier call are used again; delete both to take up videos that were added since.
    if not arguments.manifest.exists():
        from_folder(arguments.videos, arguments.manifest, pipeline=arguments.pipeline)
    written = read_manifest(arguments.manifest)
    asked = (arguments.videos.resolve().as_posix(), pipeline_path(arguments.pipeline, Path.cwd()))
    if (written.media_root, written.pipeline) != asked:
        parser.error(f"{arguments.manifest} is of another folder or pipeline: give another --manifest")
    manifest = yaml.safe_load(arguments.manifest.read_text())
    manifest |= {"license": arguments.license, "contact": arguments.contact}
    arguments.manifest.write_text(yaml.safe_dump(manifest, sort_keys=False))

    # A build that was stopped at any moment is resumed by the same call. With "ray" instead of "local", the crash of a
    # decoder ends one row and not the build.
    built = build(arguments.manifest, options=Options(runner="local"))

    for sample in posecap.open(built.root, split=None):
        people, frames, joints, _ = sample["joints"].shape
        print(f"{sample['key']}: {people} people, {frames} frames, {joints} joints; {sample['captions'][0]}")


if __name__ == "__main__":
    main()
