"""A training in a process of its own, which a notebook can watch, pause and stop while it runs cells."""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import cascade_lab
from cascade_lab.engine.logger import read_metrics
from cascade_lab.errors import InputError
from cascade_lab.train import INTERRUPTED

State = Literal["training", "pausing", "paused", "stopping", "stopped", "finished", "failed"]
ENDED = ("stopped", "finished", "failed")
SECONDS = 0.2  # between two looks at the processes
LAST_LOOKS = 30  # seconds that the last checkpoints may take, once the training has ended
# Exit codes of a training that was asked to end; the second where the signal came before it had begun.
STOPPED = (INTERRUPTED, -signal.SIGTERM)


class Training:
    """``python -m cascade_lab.train`` with some arguments, and beside it a process that looks at checkpoints.

    ``pause`` and ``stop`` send SIGTERM, after which the training finishes its step, saves, and ends, as it
    does after Ctrl-C. ``go_on`` starts it again with --resume: it goes on with the same bits. Between the two
    the state lies in the folder of the run alone, so a paused training takes neither time nor memory.

    Args:
        arguments: of the command, with --output; the folder must hold no run yet.
        pictures, measure: of how many validation pictures the detections are kept, and AP is measured.

    Raises:
        InputError: the arguments name no output.
    """

    def __init__(self, arguments: Sequence[str], *, pictures: int = 3, measure: int = 50) -> None:
        self.arguments = list(arguments)
        self.run = _output(self.arguments)
        self.log = self.run / "training.log"
        self._wish: Literal["train", "pause", "stop"] = "train"
        self.run.mkdir(parents=True, exist_ok=True)
        self._training = self._start(self.log, "cascade_lab.train", self.arguments)
        options = ["--pictures", str(pictures), "--measure", str(measure), "--follow"]
        self._looking = self._start(
            self.run / "moments.log",
            "cascade_lab.widgets.moments",
            [str(self.run), *options],
            stdin=subprocess.PIPE,  # closed, it says that no more checkpoints will come
        )
        atexit.register(self._leave)

    @property
    def state(self) -> State:
        """Return what the training is doing now; after its end, also let the process that looks end."""
        code = self._training.poll()
        if code is None:
            doing: dict[str, State] = {"train": "training", "pause": "pausing", "stop": "stopping"}
            return doing[self._wish]
        if code == 0:
            return self._end("finished")
        if code not in STOPPED:
            return self._end("failed")
        return "paused" if self._wish == "pause" else self._end("stopped")

    @property
    def looking(self) -> bool:
        """Say whether checkpoints are still being looked at."""
        return self._looking.poll() is None

    @property
    def message(self) -> str:
        """Return the last line that the training said."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def pause(self) -> None:
        """Finish the step, save and end; ``go_on`` continues."""
        if self.state == "training":
            self._wish = "pause"  # first: another thread may ask for the state as soon as the process ends
            self._training.send_signal(signal.SIGTERM)

    def go_on(self) -> None:
        """Continue a paused training where it stopped."""
        if self.state == "paused":
            resume = ["--resume"] if (self.run / "recipe.json").is_file() else []  # paused before it began
            self._training = self._start(self.log, "cascade_lab.train", [*self.arguments, *resume])
            self._wish = "train"  # last: until then the process that has ended is a paused one

    def stop(self) -> None:
        """Finish the step, save and end for good; the command still continues it with --resume."""
        before = self.state
        if before not in ENDED:
            self._wish = "stop"
        if before == "training":
            self._training.send_signal(signal.SIGTERM)

    async def wait(self, seconds: float) -> State:
        """Wait until the training has ended and its checkpoints are looked at; print how it ended.

        After ``seconds`` it is stopped, which saves. While a cell awaits this, the kernel has time for the
        buttons of the viewer. To interrupt the waiting does not interrupt the training.
        """
        until = time.monotonic() + seconds
        while self.state not in ENDED and time.monotonic() < until:
            await asyncio.sleep(SECONDS)
        late = self.state not in ENDED
        self.stop()
        until += LAST_LOOKS
        while (self.state not in ENDED or self.looking) and time.monotonic() < until:
            await asyncio.sleep(SECONDS)
        steps = [row["step"] for row in read_metrics(self.run)]
        why = f" because {seconds:g} s were over" if late else ""
        more = {"failed": self.message, "stopped": "The same command with --resume goes on."}
        said = f"{self.state}{why}, {steps[-1] if steps else 0} steps in the log."
        print(f"{said} {more.get(self.state, '')}".rstrip())
        return self.state

    def _start(
        self, log: Path, module: str, arguments: Sequence[str], stdin: int = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        path = [str(Path(cascade_lab.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        with log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # to interrupt the notebook's kernel must not reach the training
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))},
            )

    def _end(self, state: State) -> State:
        """Tell the process that looks that no more checkpoints will come; return ``state``."""
        if self._looking.stdin and not self._looking.stdin.closed:
            self._looking.stdin.close()
        return state

    def _leave(self) -> None:
        """End both processes when Python ends; the training saves first."""
        self.stop()
        if self.looking:
            self._looking.terminate()


def _output(arguments: Sequence[str]) -> Path:
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, _, value = word.partition("=")
        if name == "--output" and (value or following):
            return Path(value or following)
    raise InputError("option --output: missing; name the folder of the run, such as --output runs/pico")
