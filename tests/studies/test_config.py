import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from studies.accuracy_vs_snr import STUDY, Config
from studies.config import ConfigError, content_hash, merge, parse_assignment, resolve
from studies.curves import CURVES


def test_later_layers_win(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text("num_questions: 50\nseed: 3\nlink: {num_rx_ant: 4}\n")
    config = resolve(Config, file=file, layers=[{"num_questions": 24}], assignments=["link.speed=3", "seed=9"])
    assert (config.num_questions, config.seed) == (24, 9)
    assert (config.link.num_rx_ant, config.link.speed, config.link.num_tx_ant) == (4, 3.0, 4)


def test_printed_configuration_resolves_to_itself(tmp_path):
    config = resolve(Config, assignments=["snr_db=[20, -3.5, 7]", "link.channel=tdl-a", "data.split=val"])
    file = tmp_path / "study.yaml"
    file.write_text(config.to_yaml())
    assert resolve(Config, file=file) == config
    assert config.snr_db == (-3.5, 7.0, 20.0)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("link.num_rx_antt=8", r"unknown key 'link.num_rx_antt'; did you mean 'link.num_rx_ant'\?"),
        ("num_question=8", r"unknown key 'num_question'; did you mean 'num_questions'\?"),
        ("zzz=1", "unknown key 'zzz'; known here: seed, num_questions"),
        ("link.num_rx_ant=eight", r"link.num_rx_ant: .*'eight'"),
        ("link.channel=cdl-z", "link: channel must be one of awgn, .*cdl-z"),
        ("link.fft_size=3", "Raise fft_size"),
        ("num_questions=0", r"num_questions: .* \(got 0\)"),
        ("snr_db=[0, .nan]", "snr_db.1"),
        ("snr_db=[]", "snr_db: give at least one value"),
        ("snr_db=[5, 5.0]", "none twice"),
        ("schemes=[telepathy]", r"schemes.0: .*machine-tokens.* \(got 'telepathy'\)"),
        ("link=5", "link: "),
        ("seed", "is no assignment; write -s link.num_rx_ant=8"),
        ("seed=[", "is no YAML"),
    ],
)
def test_every_error_names_its_key(assignment, message):
    with pytest.raises(ConfigError, match=message):
        resolve(Config, assignments=[assignment])


@pytest.mark.parametrize("content", ["- 1\n- 2\n", "{", "5"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, content):
    file = tmp_path / "study.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=r"study\.yaml"):
        resolve(Config, file=file)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        resolve(Config, file=tmp_path / "none.yaml")


def test_yaml_numbers_with_an_exponent_are_numbers():
    assert resolve(Config, assignments=["link.delay_spread=1e-7"]).link.delay_spread == 1e-7  # PyYAML reads a string


plain = st.recursive(
    st.integers() | st.text(max_size=5) | st.booleans(),
    lambda inner: st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(derandomize=True, deadline=None, max_examples=80)
@given(
    tree=st.dictionaries(st.text(max_size=3), plain, max_size=4), changes=st.dictionaries(st.text(max_size=3), plain)
)
def test_merging_takes_every_change_and_keeps_the_rest(tree, changes):
    merged = merge(tree, changes)
    assert merge(merged, changes) == merged
    assert set(merged) == set(tree) | set(changes)
    assert all(merged[key] == tree[key] for key in set(tree) - set(changes))
    assert all(merged[key] == value for key, value in changes.items() if not isinstance(value, dict))


def test_assignments_nest():
    assert parse_assignment("a.b.c=[1, x]") == {"a": {"b": {"c": [1, "x"]}}}


def test_content_hash_ignores_the_order_of_keys_and_nothing_else():
    assert content_hash({"a": 1, "b": [1, 2]}) == content_hash({"b": [1, 2], "a": 1})
    assert content_hash({"a": 1, "b": [1, 2]}) != content_hash({"a": 1, "b": [2, 1]})
    with pytest.raises(ValueError, match="JSON"):
        content_hash({"a": float("nan")})


def test_the_configuration_knows_every_scheme_once_and_runs_those_that_take_no_decoding():
    assert Config(schemes=tuple(CURVES)).schemes == tuple(CURVES)
    assert Config().schemes == tuple(CURVES)[:6]
    with pytest.raises(ConfigError, match=r"schemes"):
        Config().updated({"schemes": ["jpeg"]})


def test_a_published_configuration_names_no_place():
    config = resolve(Config, assignments=["data.folder=/home/somebody/clevr", "models.machine_tokens=~/weights/pair"])
    public = config.public()
    assert public["data"]["folder"] == "clevr"
    assert public["models"]["machine_tokens"] == "pair"
    assert public["models"]["machine_tokens_uncompressed"] == "clevr-mini-uncompressed"
    assert "somebody" not in yaml.safe_dump(public)


def test_the_tiny_version_is_valid():
    config = resolve(Config, layers=[STUDY.tiny])
    assert config.num_questions == 24
