import pytest

from runner.privacy.mechanism.key import SecretKey


def test_system_keys_have_32_bytes_and_differ():
    one, other = SecretKey.from_system(), SecretKey.from_system()
    assert len(bytes(one)) == 32
    assert bytes(one) != bytes(other)


def test_restored_key_derives_the_same_streams():
    key = SecretKey.from_system()
    assert SecretKey(bytes(key)) == key
    assert SecretKey(bytes(key)).derive("noise") == key.derive("noise")


def test_purposes_and_keys_do_not_share_bytes():
    key = SecretKey.from_unsafe_seed(0)
    derived = {key.derive("a"), key.derive("b"), SecretKey.from_unsafe_seed(1).derive("a"), bytes(key)}
    assert len(derived) == 4
    assert all(len(part) == 32 for part in derived)


def test_no_text_shows_the_secret():
    key = SecretKey(bytes(range(32)))
    for text in (repr(key), str(key), f"{key}", repr([key])):
        assert "hidden" in text
        assert bytes(key).hex() not in text
        assert repr(bytes(key)) not in text


def test_a_key_of_another_length_is_refused():
    with pytest.raises(ValueError, match="32 bytes, got 31"):
        SecretKey(bytes(31))
