import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from phy import LinkConfig
from studies.accuracy_vs_snr import STUDY, Config
from studies.config import ConfigError, content_hash, merge, parse_assignment, parse_yaml, resolve
from studies.curves import CURVES
from studies.study import STUDIES, find


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
        ("snr_db=10", r"snr_db: a list is needed; write snr_db='\[10\]' \(got 10\)"),
        ("schemes=caption", r"write schemes='\[caption\]'"),
        ("link.num_tx_ant=yes", r"link.num_tx_ant: .*integer.* \(got 'yes'\)"),
        ("link.num_tx_ant=true", r"link.num_tx_ant: a number is needed \(got True\)"),
        ("link.dac_bits=on", r"link.dac_bits: .* \(got 'on'\)"),
        ("link.speed=false", r"link.speed: a number is needed \(got False\)"),
        ("link.num_guard_carriers=[true, 5]", r"link.num_guard_carriers.0: a number is needed \(got True\)"),
        ("link.phase_mask=1", r"link.phase_mask: write true or false \(got 1\)"),
        ("snr_db=[on, 5]", r"snr_db.0: .* \(got 'on'\)"),
        ("snr_db=[5, true]", r"snr_db.1: a number is needed \(got True\)"),
        ("snr_db=true", r"snr_db: .*tuple.* \(got True\)"),
        ("num_questions=true", r"num_questions: a number is needed \(got True\)"),
        ("seed=off", r"seed: .* \(got 'off'\)"),
        ("seed=1:30", r"seed: .* \(got '1:30'\)"),
        ("seed=0x10", r"seed: .* \(got '0x10'\)"),
        ("seed=2001-01-01", r"seed: .* \(got '2001-01-01'\)"),
        ("seed=9223372036854775808", "seed: "),
        ("seed=!!int 1:30", r"is no YAML: '!!int'|is no YAML: .*is a tag"),
        ("snr_db=[&a 1, *a]", r"is no YAML: 'a' is an anchor or alias"),
        ("link={num_rx_ant: 4, num_rx_ant: 2}", r"the key 'num_rx_ant' stands there twice"),
        ("link={1: 2}", "the key 1 is no string"),
        ("link={<<: {num_rx_ant: 4}}", "unknown key 'link.<<'"),
        ("seed=" + "[" * 10**5, "more than 20 levels"),
        ("a." * 10**5 + "a=1", r"a\.a\. …' is no assignment|is no assignment"),
        ("seed=" + "9" * 10**4, "is no YAML: .*4300|integer string"),
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


def test_a_file_that_says_something_twice_is_refused_with_the_key_and_the_line(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text("link: {num_rx_ant: 4}\nseed: 1\nlink: {channel: tdl-a}\n")
    with pytest.raises(ConfigError, match=r"study\.yaml cannot be read .*'link' stands there twice(.|\n)*line 3"):
        resolve(Config, file=file)


@pytest.mark.parametrize("levels", [6, 9, 30])
def test_aliases_and_depth_cost_neither_time_nor_a_long_message(tmp_path, levels):
    file = tmp_path / "study.yaml"
    lines = ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels))]
    file.write_text("\n".join(lines) + f"\nsnr_db: *a{levels - 1}\n")
    with pytest.raises(ConfigError) as refused:
        resolve(Config, file=file)
    assert len(str(refused.value)) < 1000
    file.write_text("snr_db: " + "[" * 10**6)
    with pytest.raises(ConfigError, match="more than 20 levels"):
        resolve(Config, file=file)


@pytest.mark.parametrize(
    "assignment",
    ["data.split=" + "x" * 10**6, "link.channel=" + "x" * 10**6, "y" * 10**6 + "=1", "snr_db=[" + "a," * 10**4 + "]"],
)
def test_a_long_value_makes_no_long_message(assignment):
    try:
        resolve(Config, assignments=[assignment])
    except ConfigError as error:
        assert len(str(error)) < 6000  # noqa: PT017 -- a split may be called anything
    else:
        assert assignment.startswith("data")


@pytest.mark.parametrize(
    "text", ["yes", "off", "1:30", "1e5", "0x1", "null", "~", "true", "1.5", ".5", "-3", "2001-01-01", ""]
)
def test_a_string_that_looks_like_something_else_is_read_as_it_was_written(text):
    config = Config(data={"split": text})
    assert resolve_text(config.to_yaml()) == config


def resolve_text(text):
    return Config.model_validate(parse_yaml(text))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-7", 1e-07),
        ("1.", 1.0),
        (".5", 0.5),
        ("-2", -2),
        ("+3", 3),
        ("010", "010"),
        ("1_000", "1_000"),
        ("yes", "yes"),
        ("true", True),
        ("null", None),
        ("~", None),
        ("~/pair", "~/pair"),
        (".inf", float("inf")),
        ("", None),
    ],
)
def test_scalars_are_those_of_yaml_1_2_in_decimal(text, value):
    found = parse_yaml(text)
    assert (found, type(found)) == (value, type(value))


def test_truth_stays_truth():
    assert resolve(Config, assignments=["link.phase_mask=false", "link.dc_null=true"]).link.dc_null is True
    assert Config(link=LinkConfig(phase_mask=False)).link.phase_mask is False
    with pytest.raises(ValueError, match="a number is needed"):
        Config(num_questions=True)


def test_a_tilde_is_written_out_in_every_key_that_takes_a_path(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    for study in STUDIES:
        kind = find(study).Config
        paths = [name for name in kind().plain()["models"] if name not in ("dtype", "device")]
        names = [f"models.{name}" for name in paths] + ["data.folder"]
        config = resolve(kind, assignments=[f"{name}=~/w/{name}" for name in names])
        plain = config.plain()
        assert [plain[section][key] for section, key in (name.split(".") for name in names)] == [
            f"/home/somebody/w/{name}" for name in names
        ]
        if "pairs" in plain:
            assert resolve(kind, assignments=["pairs=[~/a, b]"]).plain()["pairs"] == ["/home/somebody/a", "b"]
            assert resolve(kind, assignments=["pairs=[~/a, b]"]).public()["pairs"] == ["a", "b"]
