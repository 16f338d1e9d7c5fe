from __future__ import annotations

from pathlib import Path

import pytest

from confide.errors import ConfideError
from confide.serving.config import ServeConfig

SMALL = "small: {base_url: 'http://127.0.0.1:1/v1', model: tiny}\nmode: observe\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("audit_shar: 0.1\n", "audit_shar: unknown setting; did you mean audit_share?"),
        ("limits: {max_tokns: 5}\n", "limits.max_tokns: unknown setting; "),
        ("last_resort: {fail: error}\n", "last_resort.fail: unknown setting; did you mean failed?"),
        ("feilds: {}\n", "feilds: unknown setting; did you mean fields?"),
        ("zzz: 1\n", "zzz: unknown setting; there are: accept_model, api_keys, "),
        (
            "experts: [{name: big, base_url: 'http://127.0.0.1:1/v1', modle: big}]\n",
            "experts.0.modle: unknown setting; ",
        ),
        ("port: 70000\n", "port: Input should be less than or equal to 65535"),
    ],
)
def test_an_unknown_setting_is_told_with_the_nearest_known_one(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text(SMALL + text)
    with pytest.raises(ConfideError) as raised:
        ServeConfig.load(path)
    assert str(raised.value).startswith(f"{path}: {says}")
    assert "Extra inputs" not in str(raised.value)
