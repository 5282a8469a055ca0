"""`predict --serve`: what it needs, the page's life, and sources as its viewers see them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from samkr_edge.cli.predict_options import Options
from samkr_edge.errors import SamkrError
from samkr_edge.frames.excerpt import Excerpt
from samkr_edge.frames.opening import FrameSource, open_video
from samkr_edge.frames.own_speed import OwnSpeed
from samkr_edge.frames.sources import Sources
from samkr_edge.frames.streams import open_stream
from samkr_edge.frames.video import VideoSource
from samkr_edge.packages import not_installed
from samkr_edge.pose_model import PoseModel, load_model
from samkr_edge.printable import counted
from samkr_edge.stream_address import without_secrets
from samkr_edge.terminal import say

if TYPE_CHECKING:
    from samkr_edge.serve.address import Listening
    from samkr_edge.serve.live import LivePictures


@dataclass(frozen=True)
class ServeOptions:
    """``place`` is ``[HOST:]PORT``, None for no page; ``compare`` a second model; ``rate`` pictures a second."""

    place: str | None
    compare: Path | None
    loop: bool
    rate: float


@dataclass(frozen=True)
class ServedPage:
    """The page while it is served."""

    live: LivePictures
    loop: bool

    def open(self, source: str, options: Options) -> FrameSource:
        """A source as the page shows it: a file at its own speed, which drops frames where none are written.

        Raises:
            SamkrError: as ``samkr_edge.frames.opening.open_video``.
        """
        live = self.loop or not _writes(options)
        # Who drops frames does not know how long the others are held: no ring.
        open_it = open_video if live else open_stream
        frames = open_it(source, reconnect=options.reconnect, excerpt=options.excerpt)
        if not isinstance(frames, VideoSource):
            return frames
        again = partial(_file_again, source, options.excerpt) if self.loop else None
        return OwnSpeed(frames, live=live, again=again)


def _writes(options: Options) -> bool:
    """Whether anything is written, of which no frame may be missing."""
    return options.out is not None or options.lines.place is not None


def _file_again(source: str, excerpt: Excerpt) -> VideoSource:
    frames = open_video(source, excerpt=excerpt)
    assert isinstance(frames, VideoSource)
    return frames


def listen_for(serve: ServeOptions, found: Sources, out: Path | None) -> Listening | None:
    """Before anything else is done: the socket of the page, or None where none is wanted.

    Raises:
        SamkrError: SE-U39 options of a page without one, SE-U38 nothing that a page shows, SE-U43 a video that never
            ends would be written, SE-U70 the extra is not installed; and see ``samkr_edge.serve.address.listen``.
    """
    if serve.place is None:
        given = {"--compare": serve.compare is not None, "--loop": serve.loop}
        if any(given.values()):
            name = next(name for name, is_given in given.items() if is_given)
            raise SamkrError("SE-U39", f"{name} is for a page, and none is served", fix="add --serve 8080")
        return None
    if found.images or not found.streams:
        raise SamkrError(
            "SE-U38",
            "--serve shows videos and cameras, so nothing was done",
            {"found": counted(len(found.images), "image")},
            fix="name a video, a camera's number or a stream's address; images: leave --serve out and give -o DIR",
        )
    if serve.loop and out is not None:
        raise SamkrError(
            "SE-U43",
            "--loop plays a video for ever, and -o would write for ever",
            {"-o": str(out)},
            fix="leave out --loop or -o",
        )
    try:
        import samkr_edge.serve.server
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "samkr_edge"):
            raise
        raise not_installed("predict --serve", package, 'pip install "samkr-edge[serve]"') from error
    return samkr_edge.serve.address.listen(serve.place)


@contextmanager
def serving(
    listening: Listening | None,
    serve: ServeOptions,
    model: PoseModel,
    sources: Sequence[str],
    options: Options,
    threads: int,
) -> Iterator[ServedPage | None]:
    """Serve the page inside ``with``, and say where."""
    if listening is None:
        yield None
        return
    from samkr_edge.serve.address import way_in
    from samkr_edge.serve.facts import page_facts
    from samkr_edge.serve.live import LivePictures
    from samkr_edge.serve.server import PageServer

    names = [Path(source).name if Path(source).is_file() else without_secrets(source) for source in sources]
    with ExitStack() as stack:
        stack.callback(listening.socket.close)
        second = None
        if serve.compare is not None:
            second = stack.enter_context(
                load_model(serve.compare, threads=threads, cuda_graph=model.cuda_graph)
            )
        facts = page_facts(
            [model] if second is None else [model, second],
            names,
            threads=threads,
            threshold=options.threshold,
            boxes=options.boxes,
            writes=_writes(options),
            rate=serve.rate,
        )
        live = stack.enter_context(
            LivePictures(names, rate=serve.rate, threshold=options.least(model.card), compared=second)
        )
        server = stack.enter_context(PageServer(listening, live, facts))
        told = [f"live page: {server.link}   (Ctrl-C ends it)"]
        if not listening.loopback:
            told.append(
                "  whoever has this link can watch; it is sent unencrypted: use it in networks that you trust"
            )
        if (tunnel := way_in(listening)) is not None:
            told.append(tunnel)
        say("\n".join(told))  # at once: nobody has the link without the warning
        yield ServedPage(live, serve.loop)
