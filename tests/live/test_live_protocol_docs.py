"""The commands of docs/protocol.md work as they stand."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not shutil.which("curl"), reason="the commands call curl"),
]

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"
COMMANDS = re.findall(r"```sh\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
REQUEST = {
    "inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": [5, 3.5, 1.4, 0.2]}]
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_is_answered(command, gateway, tmp_path):
    (tmp_path / "request.json").write_text(json.dumps(REQUEST))
    here = command.replace("localhost:8000", f"127.0.0.1:{gateway.port}")
    done = subprocess.run(["bash", "-ec", here], cwd=tmp_path, capture_output=True, check=True)
    file = tmp_path / "answer.bin"
    answer = file.read_bytes() if file.exists() else done.stdout
    assert answer.startswith(b'{"model_name":"iris","model_version":"1","outputs":[')
