"""Download of images by URL: concurrent, paced by host, retried, verified and stored by name."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue

from coconut_attr.datasets import Dataset
from coconut_attr.download.fetcher import ImageFetcher
from coconut_attr.download.queue import ImageJob, JobQueue, Mode, Outcome, Wanted
from coconut_attr.settings import Settings


def download(
    wanted: Iterable[Wanted], dataset: Dataset, settings: Settings, mode: Mode = "new"
) -> Iterator[Outcome]:
    """Fetch images in a bounded thread pool, and yield each outcome as soon as it is ready.

    `wanted` is read lazily, a few images ahead. An intact file on disk is kept without a request,
    except in mode "verify". An image that waits for a retry occupies no thread. A host that
    throttles gets no request for as long as it asks, and fewer requests afterwards.

    Raises:
        ObjectStoreError, UnreachableError: the object store fails. Every yielded outcome is of an
            image that is in it.
    """
    queue = JobQueue(wanted, settings.download_threads)
    fetcher = ImageFetcher(dataset, settings, mode)
    done: SimpleQueue[Future[ImageJob]] = SimpleQueue()
    pool = ThreadPoolExecutor(settings.download_threads, thread_name_prefix="download")
    try:
        while True:
            for job in queue.start_due():
                pool.submit(fetcher.attempt, job).add_done_callback(done.put)
            if queue.is_empty():
                return
            with suppress(Empty):
                attempt = done.get(timeout=queue.seconds_to_next())
                while True:  # drain what else is ready
                    job = attempt.result()
                    queue.finish_attempt(job)
                    if job.outcome:
                        yield job.outcome
                    attempt = done.get_nowait()
    finally:
        pool.shutdown(cancel_futures=True)
        fetcher.session.close()
