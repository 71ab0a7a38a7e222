"""Work in several processes that know of each other, as torchrun starts them, but forked: nothing is imported again."""

import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from v2w_convert.errors import V2WError
from v2w_convert.processes import Processes

WITHIN = timedelta(seconds=60)


def together(count: int, folder: Path, work: Callable[[Processes], Any]) -> list[Any]:
    """What `work` returns in each process: its value as JSON has it, a `V2WError`'s text, or an exit code where it ends otherwise.

    Args:
        count: How many processes.
        folder: An empty folder, for what they tell.
        work: Given its process.
    """
    folder.mkdir()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads do not survive a fork
    children = []
    for index in range(count):
        child = os.fork()
        if child == 0:
            try:
                store = f"file://{folder / 'store'}"
                dist.init_process_group("gloo", store, rank=index, world_size=count, timeout=WITHIN)
                try:
                    found = work(Processes(index, count))
                except V2WError as error:
                    found = str(error)
                (folder / str(index)).write_text(json.dumps(found))
                os._exit(0)
            finally:
                os._exit(99)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    torch.set_num_threads(threads)
    files = [folder / str(index) for index in range(count)]
    return [
        json.loads(file.read_text()) if code == 0 else code for file, code in zip(files, codes, strict=True)
    ]
