"""The next best step: the allowed step of the highest expected value, with the probability with which it was drawn."""

import msgspec
import numpy as np
import pytest

from serving.engines.journey import next_step
from serving.engines.journey.next_step import FACTS, NOTHING, Contact, ContactPolicy, Situation, StepChooser, StepRule, StepsFile
from serving.errors import SettingsError
from serving.settings import CONFIGS
from training.models.journey.next_step import StepEffect

NOON_MS = 1_763_640_000_000.0  # 2025-11-20 12:00 UTC
HOUR = next_step.HOUR_MS


def step(name, lift=0.02, cost=0.0, **fields):
    usual = {"channel": "page", "when": {}, "sentence": "Do."}
    return msgspec.convert({**usual, "step": name, "lift": lift, "costShare": cost, **fields}, StepRule)


def situation(**fields):
    usual = {
        "facts": dict.fromkeys(FACTS, 0.5),
        "at_ms": NOON_MS,
        "ended": False,
        "consent": (),
        "contacts": (),
        "utc_offset_minutes": 0.0,
        "order_value": 100.0,
        "key": "s-1",
    }
    return Situation(**{**usual, **fields})


def chosen(*table, measured=None, explore=0.0, policy=None, **fields):
    file = StepsFile(msgspec.structs.replace(policy or ContactPolicy(), explore=explore), list(table))
    return StepChooser(file, measured).choose(situation(**fields))


def exclusion_reasons(*table, **fields):
    return {one.step: one.exclusion_reason for one in chosen(*table, **fields).candidates}


def test_the_step_of_the_highest_value_is_taken_with_its_value():
    got = chosen(step("small", 0.01), step("large", 0.03, 0.01), step("dear", 0.05, 0.049))
    assert (got.step, got.basis, got.propensity) == ("large", "rule", 1)
    assert got.expected_incremental_value == pytest.approx(2.0)
    assert [one.step for one in got.candidates] == ["large", "small", "dear"]


def test_nothing_is_done_where_nothing_adds_more_than_it_costs():
    got = chosen(step("dear", 0.01, 0.02))
    assert (got.step, got.expected_incremental_value, got.propensity) == (NOTHING, 0, 1)


def test_without_a_value_of_the_order_the_order_of_steps_is_the_same():
    got = chosen(step("small", 0.01), step("large", 0.03), order_value=None)
    assert (got.step, got.expected_incremental_value) == ("large", None)


def test_a_step_whose_conditions_do_not_hold_is_excluded():
    table = [step("a", when={"hesitant": {"atLeast": 0.6}}), step("b", when={"hesitant": {"below": 0.6}})]
    assert exclusion_reasons(*table) == {"a": "notNow", "b": None}


def test_a_page_step_ends_with_its_session_and_a_message_needs_its_purpose():
    table = [step("onpage"), step("mail", channel="message", purpose="marketing")]
    assert exclusion_reasons(*table, ended=True) == {"onpage": "sessionEnded", "mail": "consent"}
    assert exclusion_reasons(*table, consent=("marketing",)) == {"onpage": None, "mail": None}


def test_contacts_are_capped_and_the_same_step_cools_down():
    def contacts(*hours):
        return [Contact(step="a", at=NOON_MS - hour * HOUR) for hour in hours]

    table = [step("a"), step("b")]
    assert exclusion_reasons(*table, contacts=contacts(5)) == {"a": "coolDown", "b": None}
    assert exclusion_reasons(*table, contacts=contacts(7)) == {"a": None, "b": None}
    assert exclusion_reasons(*table, contacts=contacts(20, 21, 22)) == {"a": "contactCap", "b": "contactCap"}
    assert exclusion_reasons(*table, contacts=contacts(20, 21, 25)) == {"a": None, "b": None}
    assert exclusion_reasons(*table, contacts=contacts(-1, -2, -3)) == {"a": None, "b": None}  # in the future


HOURS = [(None, "localTimeUnknown"), (0, None), (9 * 60, "quietHours"), (8 * 60, None), (-5 * 60, "quietHours")]


@pytest.mark.parametrize(("offset", "reason"), HOURS)
def test_no_message_is_sent_in_quiet_hours_or_where_the_hour_is_not_known(offset, reason):
    table = [step("mail", channel="message"), step("onpage")]
    assert exclusion_reasons(*table, utc_offset_minutes=offset) == {"mail": reason, "onpage": None}


def test_quiet_hours_may_be_within_a_day():
    policy = ContactPolicy(quiet_from=12, quiet_until=14)
    assert exclusion_reasons(step("mail", channel="message"), policy=policy) == {"mail": "quietHours"}
    assert exclusion_reasons(step("mail", channel="message"), policy=policy, utc_offset_minutes=120.0) == {"mail": None}


def test_logged_outcomes_replace_an_assumption():
    got = chosen(step("said", 0.05), step("shown", 0.01), measured={"said": StepEffect(0.001, 0.0001), "shown": StepEffect(0.04, 0.001)})
    assert (got.step, got.basis) == ("shown", "bandit")
    lifts = {one.step: one.lift for one in got.candidates}
    assert lifts["said"] == pytest.approx(0.001, abs=1e-4)
    assert lifts["shown"] == pytest.approx(0.04, abs=1e-3)


def test_steps_are_drawn_with_their_propensities():
    table, measured = [step("a", 0.01), step("b", 0.01)], {"a": StepEffect(0.010, 0.005), "b": StepEffect(0.012, 0.005)}
    taken = [chosen(*table, measured=measured, explore=0.1, key=f"s-{number}") for number in range(4000)]
    told = {one.step: one.propensity for one in taken}
    assert sum(told.values()) == pytest.approx(1)
    for name, propensity in told.items():
        assert np.mean([one.step == name for one in taken]) == pytest.approx(propensity, abs=0.03)
    assert chosen(*table, measured=measured, key="s-1") == chosen(*table, measured=measured, key="s-1")


def test_exploration_draws_no_excluded_step():
    table = [step("a"), step("never", when={"events": {"below": 0}})]
    taken = {chosen(*table, explore=1.0, key=f"s-{number}").step for number in range(200)}
    assert taken == {"a", NOTHING}


USUAL = "channel: page, when: {}, lift: 0, costShare: 0, sentence: x"
WRONG = {
    f"{{step: a, {USUAL.replace('{}', '{events: {atLeast: 2, below: 1}}')}}}": "step a, events",
    f"{{step: a, {USUAL}}}, {{step: a, {USUAL}}}": "steps a: the name is used twice",
    f"{{step: none, {USUAL}}}": "steps none: the name is used twice",
    f"{{step: a, {USUAL.replace('page', 'fax')}}}": "fax",
    f"{{step: a, {USUAL.replace('{}', '{mood: {below: 1}}')}}}": "mood",
}


@pytest.mark.parametrize(("table", "message"), WRONG.items())
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path, table, message):
    path = tmp_path / "steps.yaml"
    path.write_text(f"policy: {{}}\nsteps: [{table}]")
    with pytest.raises(SettingsError, match=f"steps.yaml.*{message}"):
        next_step.load(path)


def test_the_file_that_comes_with_it_can_be_read():
    assert next_step.load(CONFIGS / "steps.yaml").choose(situation()).step
