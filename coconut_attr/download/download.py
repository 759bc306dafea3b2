"""Images by URL: fetched with retries at the pace that a host bears, verified, and kept under its name."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue

from coconut_attr.datasets import Dataset
from coconut_attr.download.fetcher import Fetcher
from coconut_attr.download.queue import Job, Outcome, Queue, Wanted
from coconut_attr.settings import Settings


def download(wanted: Iterable[Wanted], dataset: Dataset, settings: Settings) -> Iterator[Outcome]:
    """Fetch images in a bounded pool of threads; outcomes come as they are ready, failures among them.

    `wanted` is read as there is room, a few images ahead. A file that is already in place and whole is kept without a
    request. An image that waits for another attempt occupies no thread; a host that refuses requests is left alone
    for as long as it asks, and then asked more slowly.

    Raises:
        coconut_attr.files.object_store.ObjectStoreError, UnreachableError: the image store fails; no outcome tells of an image
            that is not in it.
    """
    queue = Queue(wanted, settings.download_threads)
    fetcher = Fetcher(dataset, settings)
    done: SimpleQueue[Future[Job]] = SimpleQueue()
    pool = ThreadPoolExecutor(settings.download_threads, thread_name_prefix="download")
    try:
        while True:
            for job in queue.due():
                pool.submit(fetcher.attempt, job).add_done_callback(done.put)
            if queue.is_empty():
                return
            with suppress(Empty):
                tried = done.get(timeout=queue.pause())
                while True:  # and all that are ready beside it
                    job = tried.result()
                    queue.back(job)
                    if job.outcome:
                        yield job.outcome
                    tried = done.get_nowait()
    finally:
        pool.shutdown(cancel_futures=True)
        fetcher.session.close()
