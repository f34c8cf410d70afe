"""Name what the people of a video do, by example videos of each class.

    pip install -e '.[build,train]'
    python examples/recognize_a_video.py RUN EXAMPLES video.mp4
    python examples/recognize_a_video.py RUN EXAMPLES video.mp4 --live

RUN is a folder that `tmor_train run` made. EXAMPLES has a folder of videos for each class. With `--live` the video is
played at its own pace, as a camera would (`0` is the first camera). `tmor_train recognize` does the same.
"""

import argparse

import tmor_train
from tmor_train.live import Camera, watch


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", help="a run's folder, or a checkpoint")
    parser.add_argument("examples", help="a folder with a folder of videos for each class")
    parser.add_argument("video")
    parser.add_argument("--pipeline", default="default", help="a pipeline of posecap, or its file")
    parser.add_argument("--live", action="store_true", help="as a camera")
    arguments = parser.parse_args()

    recognizer = tmor_train.recognizer(arguments.run, examples=arguments.examples, pipeline=arguments.pipeline)
    if arguments.live:
        for moment in watch(recognizer, Camera(arguments.video)):
            for seen in moment.people:
                print(f"{moment.seconds:.1f} s: person {seen.number}, {seen.label}, {seen.score:.2f}")
        return
    for person in recognizer.recognize(arguments.video).people:
        for segment in person.segments:
            span = f"{segment.start_seconds:.1f} to {segment.end_seconds:.1f} s"
            print(f"{span}: person {person.number}, {segment.label}, {segment.score:.2f}")


if __name__ == "__main__":
    main()
