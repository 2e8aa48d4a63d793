"""What a look at a policy file tells: real files, written in every way that editors and deployments write them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from broker.errors import PolicyError
from broker.policy.judging.decide import Policy
from broker.policy.load import load_policy, parse_policy
from broker.policy.watch import LOOK_EVERY, PATIENCE, InForce, Watched

MILD = "allow"
STRICT = "deny"


def document(default: str = MILD, **more: Any) -> str:
    return json.dumps({"version": "1", "default": default, **more})


class Looking:
    """A file that is looked at as often as the broker does; the seconds between are only counted."""

    def __init__(self, path: Path) -> None:
        self.file = Watched(path)
        self.now = 1000.0

    def once(self) -> Policy | PolicyError | None:
        """The next look."""
        self.now += LOOK_EVERY
        return self.file.look(self.now)

    def within_a_second(self) -> list[Policy | PolicyError]:
        """What the looks of a second tell; nobody writes meanwhile."""
        return [found for _ in range(int(1 / LOOK_EVERY)) if (found := self.once()) is not None]

    def loads(self) -> str:
        """The default action of the one policy that the looks of a second tell."""
        (found,) = self.within_a_second()
        return default_of(found)

    def refuses(self) -> str:
        """What the looks of a second say against the file, once."""
        (found,) = self.within_a_second()
        assert isinstance(found, PolicyError)
        return str(found)


def default_of(found: Policy | PolicyError | None) -> str:
    assert isinstance(found, Policy)
    return found.book.unlisted.action.value


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A policy file."""
    path = tmp_path / "policies" / "git.json"
    path.parent.mkdir()
    path.write_text(document())
    return path


@pytest.fixture
def looking(path: Path) -> Iterator[Looking]:
    """Somebody who looks at it from now on, and in the end finds that nothing more is told."""
    looking = Looking(path)
    yield looking
    assert looking.within_a_second() == []


def replace(path: Path, text: str) -> None:
    """Save as vim, `sed -i` and deployments do: another file takes the place."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def test_a_file_that_nobody_touches_is_no_news(looking: Looking) -> None:
    assert looking.within_a_second() == []


def test_what_is_written_in_place_is_loaded(looking: Looking, path: Path) -> None:
    path.write_text(document(STRICT))
    assert looking.loads() == STRICT


def test_what_takes_the_place_of_the_file_is_loaded(looking: Looking, path: Path) -> None:
    replace(path, document(STRICT))
    assert looking.loads() == STRICT


def test_a_change_between_the_start_and_the_first_look_is_seen(path: Path) -> None:
    looking = Looking(path)
    load_policy(path)
    path.write_text(document(STRICT))
    assert looking.loads() == STRICT


def test_an_edit_of_the_same_length_with_the_old_time_is_seen(looking: Looking, path: Path) -> None:
    """As `cp -p` and `tar` leave it: the time of the last change is set back to what it was."""
    before = path.stat()
    path.write_text(document(STRICT).ljust(before.st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)
    assert looking.loads() == STRICT


def test_a_touched_file_is_loaded_once_and_has_the_digest_that_it_had(looking: Looking, path: Path) -> None:
    path.touch()
    (found,) = looking.within_a_second()
    assert isinstance(found, Policy)
    assert found.digest == load_policy(path).digest


# -- half-written files -----------------------------------------------------------------------------------------------


def test_a_half_written_file_that_means_something_by_itself_never_counts(looking: Looking, path: Path) -> None:
    """The first half allows all; what denies is still in the writer's hands."""
    path.write_text(document(MILD, description="half"))
    assert looking.once() is None
    path.write_text(document(MILD, description="half", tools={"push": {"action": "deny"}}))
    assert looking.once() is None
    (found,) = looking.within_a_second()
    assert isinstance(found, Policy)
    assert "push" in found.book.entries


def test_a_file_that_grows_for_long_is_not_loaded_before_its_writer_rests(looking: Looking, path: Path) -> None:
    for size in range(20):  # five seconds
        path.write_text(document(MILD, description="x" * size))
        assert looking.once() is None
    path.write_text(document(STRICT, description="x" * 30))
    assert looking.loads() == STRICT


def test_a_file_that_appears_is_not_loaded_at_the_first_sight_of_it(looking: Looking, path: Path) -> None:
    path.unlink()
    looking.refuses()
    path.write_text(document(MILD, description="half"))
    assert looking.once() is None
    path.write_text(document(STRICT, description="the whole of it"))
    assert looking.loads() == STRICT


@pytest.mark.parametrize("text", ["", "{}", document()[:-10], "[]", "null", '{"version": "1"', "\0" * 40])
def test_a_file_that_was_cut_off_is_refused_and_told_once(looking: Looking, path: Path, text: str) -> None:
    path.write_text(text)
    assert str(path) in looking.refuses()


def test_a_mistake_is_told_again_only_when_the_file_is_another_one(looking: Looking, path: Path) -> None:
    path.write_text(document("allwo"))
    assert "expected" in looking.refuses()
    assert looking.within_a_second() == []
    path.write_text(document(STRICT))
    assert looking.loads() == STRICT


def test_a_file_that_is_written_while_it_is_read_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    text = document(tools={f"tool_{number}": {"action": "deny"} for number in range(3000)})
    path.write_text("{}")
    looking = Looking(path)
    path.write_text(text)
    assert looking.once() is None
    with ThreadPoolExecutor(1) as threads:
        look = threads.submit(looking.once)
        while not look.done():
            path.write_text(text)
    assert look.result() is None
    told = looking.within_a_second()  # before it rests, when its writing took longer than the patience, and then
    assert {found.digest for found in told if isinstance(found, Policy)} == {parse_policy(text, "large.json").digest}
    assert all(isinstance(found, Policy) for found in told)


# -- bursts -----------------------------------------------------------------------------------------------------------


def test_a_burst_of_saves_ends_in_one_load_of_the_last(looking: Looking, path: Path) -> None:
    for default in (MILD, STRICT, MILD, STRICT, MILD, "hold"):
        replace(path, document(default))
    assert looking.loads() == "hold"


@pytest.mark.parametrize("in_place", [True, False])
def test_a_burst_without_an_end_is_loaded_again_and_again_within_a_second(path: Path, in_place: bool) -> None:
    looking, loaded = Looking(path), 0
    start = quiet_since = looking.now
    for number in range(40):
        text = document(STRICT, description=str(number).zfill(6))
        path.write_text(text) if in_place else replace(path, text)
        found = looking.once()
        if found is not None:
            assert default_of(found) == STRICT
            quiet_since, loaded = looking.now, loaded + 1
        assert looking.now - quiet_since <= PATIENCE + 2 * LOOK_EVERY <= 1
    assert loaded >= (looking.now - start) / (PATIENCE + 2 * LOOK_EVERY) - 1


def test_the_mistakes_of_a_burst_are_not_told_before_it_is_over(looking: Looking, path: Path) -> None:
    for number in range(20):
        replace(path, document("allwo", description=str(number)))
        assert looking.once() is None
    assert "expected" in looking.refuses()


# -- files that go away -----------------------------------------------------------------------------------------------


def test_a_file_that_disappears_is_told_once_and_loaded_when_it_is_back(looking: Looking, path: Path) -> None:
    path.unlink()
    assert looking.refuses() == f"{path} is gone."
    assert looking.within_a_second() == []
    path.write_text(document(STRICT))
    assert looking.loads() == STRICT


def test_an_editor_that_takes_the_file_away_for_a_moment_is_no_trouble(looking: Looking, path: Path) -> None:
    path.unlink()
    assert looking.once() is None
    path.write_text(document(STRICT))
    assert looking.loads() == STRICT


def test_a_folder_that_disappears_and_comes_back_is_watched_on(looking: Looking, path: Path) -> None:
    aside = path.parent.with_name("aside")
    path.parent.rename(aside)
    assert looking.refuses() == f"{path} is gone."
    aside.rename(path.parent)
    path.write_text(document(STRICT))
    assert looking.loads() == STRICT


def test_a_folder_that_became_a_file_holds_no_policy(looking: Looking, path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.write_text("now a file")
    assert looking.refuses() == f"{path} is gone."


def test_a_folder_in_the_place_of_the_file_is_refused(looking: Looking, path: Path) -> None:
    path.unlink()
    path.mkdir()
    assert looking.refuses() == f"{path} is not a file any more."


@pytest.mark.timeout(10)
def test_a_pipe_in_the_place_of_the_file_is_not_waited_for(looking: Looking, path: Path) -> None:
    path.unlink()
    os.mkfifo(path)
    assert looking.refuses() == f"{path} is not a file any more."


def test_a_symlink_to_itself_is_told(looking: Looking, path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)
    assert looking.refuses().startswith(f"{path} cannot be read: ")


# -- symlinks ---------------------------------------------------------------------------------------------------------


def release(folder: Path, name: str, default: str) -> Path:
    """A version of the document, in a folder of its own."""
    version = folder / name
    version.mkdir()
    (version / "git.json").write_text(document(default))
    return version


def point(link: Path, target: str) -> None:
    """Let the symlink lead elsewhere, in one step."""
    new = link.with_suffix(".new")
    new.symlink_to(target)
    new.replace(link)


def test_a_swapped_folder_behind_symlinks_is_loaded(tmp_path: Path) -> None:
    """How Kubernetes mounts a ConfigMap: the file leads through `..data`, which is swapped."""
    release(tmp_path, "..2026_01", MILD)
    (tmp_path / "..data").symlink_to("..2026_01")
    (tmp_path / "git.json").symlink_to("..data/git.json")
    looking = Looking(tmp_path / "git.json")
    release(tmp_path, "..2026_02", STRICT)
    point(tmp_path / "..data", "..2026_02")
    shutil.rmtree(tmp_path / "..2026_01")
    assert looking.loads() == STRICT
    assert looking.within_a_second() == []


def test_a_symlink_that_leads_nowhere_is_told_until_it_leads_somewhere(tmp_path: Path) -> None:
    release(tmp_path, "one", MILD)
    link = tmp_path / "git.json"
    link.symlink_to("one/git.json")
    looking = Looking(link)
    point(link, "two/git.json")
    assert looking.refuses() == f"{link} is gone."
    release(tmp_path, "two", STRICT)
    assert looking.loads() == STRICT


# -- what is told of it -----------------------------------------------------------------------------------------------


def test_what_could_not_be_used_is_told_again(looking: Looking, path: Path) -> None:
    path.write_text(document(STRICT))
    assert looking.loads() == STRICT
    looking.file.forget()
    assert looking.loads() == STRICT


def test_a_trouble_says_what_is_in_force_and_every_mistake(path: Path) -> None:
    at = datetime(2026, 7, 28, 12, 0, tzinfo=UTC)
    in_force = InForce("git", load_policy(path), at)
    assert (in_force.error, in_force.mistakes) == (None, [])
    path.write_text(document("allwo", hdie=[]))
    with pytest.raises(PolicyError) as refused:
        load_policy(path)
    in_force.trouble = refused.value
    stays = "The policy loaded at 2026-07-28 12:00:00 UTC stays in force."
    assert in_force.error == f"{path} has 2 mistakes. {stays}"
    assert len(in_force.mistakes) == 2
    assert any("hide" in mistake for mistake in in_force.mistakes)
    in_force.trouble = PolicyError(f"{path} is gone.")
    assert (in_force.error, in_force.mistakes) == (f"{path} is gone. {stays}", [f"{path} is gone."])


def test_a_trouble_that_ends_in_a_question_gets_no_full_stop_of_its_own(path: Path) -> None:
    in_force = InForce("git", load_policy(path), datetime(2026, 7, 28, tzinfo=UTC))
    path.write_text(document("hodl"))
    with pytest.raises(PolicyError) as refused:
        load_policy(path)
    in_force.trouble = refused.value
    assert str(in_force.error).endswith(
        "did you mean hold? The policy loaded at 2026-07-28 00:00:00 UTC stays in force."
    )
