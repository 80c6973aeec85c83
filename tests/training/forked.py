"""Processes that train together, forked from one that has imported torch already."""
import os
import traceback

import torch
import torch._dynamo  # as the first backward pass of each child would


def forked(work, world: int = 1, port: str = "") -> list[int]:
    """Exit statuses of `world` processes that do `work`: 2 << 8 of one that was told to stop, 1 << 8 of one with another error."""
    children = []
    for rank in range(world):
        if not (child := os.fork()):
            os.environ |= {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "RANK": str(rank), "LOCAL_RANK": str(rank),
                           "TORCHELASTIC_RUN_ID": "forked", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            torch.set_num_threads(1)
            try:
                work()
            except KeyboardInterrupt:
                os._exit(2)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(child)
    return [os.waitpid(child, 0)[1] for child in children]
