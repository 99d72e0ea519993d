"""A real kernel, driven as a front end drives it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

TIMEOUT = 120.0


@dataclass
class Cell:
    """What executing a cell gave: the outputs a notebook would hold, and the reply's status."""

    outputs: list[dict[str, Any]] = field(default_factory=list)
    status: str = ""
    clearing: bool = False
    messages: int = 0

    def text(self, name: str) -> str:
        return "".join(out["text"] for out in self.outputs if out.get("name") == name)

    @property
    def error(self) -> dict[str, Any]:
        errors = [out for out in self.outputs if "ename" in out]
        assert len(errors) == 1, f"{len(errors)} errors among {self.outputs}"
        return errors[0]

    def data(self, mime: str) -> list[Any]:
        return [out["data"][mime] for out in self.outputs if mime in out.get("data", {})]


class Kernel:
    """A started kernel with the extension loaded."""

    def __init__(self) -> None:
        self._cells: dict[str, Cell] = {}
        self.manager = KernelManager(transport="ipc")
        self.manager.start_kernel()
        self.client: BlockingKernelClient = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=TIMEOUT)
        assert self.run("%load_ext agentbox_magic").status == "ok"

    @property
    def pid(self) -> int:
        pid: int = self.manager.provisioner.pid
        return pid

    def run(self, code: str) -> Cell:
        return self.finish(self.start(code))

    def start(self, code: str) -> str:
        message: str = self.client.execute(code)
        self._cells[message] = Cell()
        return message

    def wait_for_stream(self, message: str, text: str) -> None:
        """Until a running cell has printed ``text``."""
        while text not in self._cells[message].text("stdout"):
            assert self._take(message), f"the cell ended without {text!r}"

    def finish(self, message: str) -> Cell:
        while self._take(message):
            pass
        cell = self._cells.pop(message)
        deadline = time.monotonic() + TIMEOUT
        while not cell.status:
            reply = self.client.get_shell_msg(timeout=deadline - time.monotonic())
            if reply["parent_header"].get("msg_id") == message:
                cell.status = reply["content"]["status"]
        return cell

    def _take(self, message: str) -> bool:
        """Take the next message of a cell; False if it was the last."""
        answer: dict[str, Any] = self.client.get_iopub_msg(timeout=TIMEOUT)
        kind, content = answer["msg_type"], answer["content"]
        if answer["parent_header"].get("msg_id") != message:
            return True
        cell = self._cells[message]
        cell.messages += 1
        if kind == "clear_output":
            cell.clearing = True  # with or without wait, by the time anybody looks it is the same
        elif kind == "update_display_data":
            for out in cell.outputs:
                if out.get("transient", {}).get("display_id") == content["transient"]["display_id"]:
                    out["data"] = content["data"]
        elif kind in ("stream", "display_data", "execute_result", "error"):
            if cell.clearing:
                cell.outputs.clear()
                cell.clearing = False
            cell.outputs.append(content)
        return not (kind == "status" and content["execution_state"] == "idle")

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()
