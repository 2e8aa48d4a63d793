"""A real server in a process of its own, and the commands that talk to it."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from broker.demo.agent import Outcome, connected_agent
from broker.demo.stage import MESSAGE_FILE, POLICY, make_repository
from tests.cli.conftest import Shell

TIME_LIMIT = 30.0
