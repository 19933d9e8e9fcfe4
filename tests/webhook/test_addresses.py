"""Whom we may call: the public internet in one plain spelling, and nothing else, however it is written."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from growth.vocabulary.refusals import Refusal
from growth.webhook.addresses import check_addresses, may_call, may_call_text, read_target

PUBLIC = ["8.8.8.8", "1.1.1.1", "223.5.5.5", "172.15.255.255", "172.32.0.0", "100.63.255.255", "2606:4700::1111"]

INSIDE_4 = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
]
INSIDE_6 = [
    "::",
    "::1",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::7f00:1",
    "100::1",
    "2001::7f00:1",
    "2001:10::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:808:808::1",
    "2606:4700::5efe:7f00:1",
    "2606:4700::200:5efe:7f00:1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("text", PUBLIC)
def test_the_public_internet_may_be_called(text: str) -> None:
    assert may_call_text(text)
    host = f"[{text}]" if ":" in text else text
    assert read_target(f"https://{host}/hooks").host == text


@pytest.mark.parametrize("text", [*INSIDE_4, *INSIDE_6])
def test_what_is_inside_may_not_be_called(text: str) -> None:
    assert not may_call_text(text)
    with pytest.raises(Refusal):
        read_target(f"https://[{text}]/" if ":" in text else f"https://{text}/")
    with pytest.raises(Refusal):
        check_addresses("crm.example.com", ["8.8.8.8", text])


@given(st.ip_addresses())
def test_what_may_be_called_is_global_for_pythons_own_registry_too(address: IPv4Address | IPv6Address) -> None:
    if may_call(address):
        assert address.is_global
        assert not address.is_multicast


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_within_an_ipv6_one_is_never_called(address: IPv4Address) -> None:
    number = int(address)
    for within in (
        number,
        (0xFFFF << 32) | number,
        (0xFFFF0000 << 32) | number,
        (0x0064FF9B << 96) | number,
        (0x2002 << 112) | (number << 80) | 1,
        (0x20010000 << 96) | (number ^ 0xFFFFFFFF),
        (0x26064700 << 96) | (0x5EFE << 32) | number,
    ):
        assert not may_call(ip_address(within.to_bytes(16, "big")))


@pytest.mark.parametrize(
    "url",
    [
        # 127.0.0.1, in every way that something somewhere understands.
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.0.0.1/",
        "https://0177.0.0.1/",
        "https://017700000001/",
        "https://127.1/",
        "https://127.0.1/",
        "https://127.0.0.1./",
        "https://0/",
        "https://127.0.0.0x1/",
        "https://foo.0x7f000001/",
        "https://[::ffff:7f00:1]/",
        "https://[0:0:0:0:0:0:0:1]/",
        "https://[::1%25lo]/",
        "https://%31%32%37.0.0.1/",
        "https://127。0。0。1/",
        "https://①②⑦.0.0.1/",
        "https://localhost/",
        "https://localhost./",
        "https://LOCALHOST/",
        "https://crm.localhost/",
        "https://metadata.google.internal/",
        "https://printer.local/",
        "https://postgres/",
        "https://crm.example.com./",
        "https://.example.com/",
        "https://crm..example.com/",
        "https://crm_.example.com/",
        "https://-crm.example.com/",
        # Where libraries disagree which part is the host.
        "https://crm.example.com@127.0.0.1/",
        "https://127.0.0.1@crm.example.com/",
        "https://crm.example.com:443@127.0.0.1/",
        "https://crm.example.com\\@127.0.0.1/",
        "https://crm.example.com#@127.0.0.1/",
        "https://crm.example.com\t/",
        "https://crm.exa\nmple.com/",
        " https://crm.example.com/",
        "https:///crm.example.com/",
        "https:/crm.example.com/",
        "https:crm.example.com",
        "https://",
        "https://[::1",
        "https://crm.example.com:/",
        "https://crm.example.com:0/",
        "https://crm.example.com:080443/",
        "https://crm.example.com:99999/",
        "https://crm.example.com:22/",
        "https://crm.example.com:25/",
        "https://crm.example.com:x/",
        "http://crm.example.com/",
        "HTTPS://crm.example.com/",
        "ftp://crm.example.com/",
        "file:///etc/passwd",
        "gopher://crm.example.com/",
        "//crm.example.com/",
        "https://crm.example.com/#part",
        f"https://crm.example.com/{'x' * 1024}",
        "https://crm.example.com/\x00",
        "https://crm.example.com/ x",
        "https://крм.example.com/",
    ],
)
def test_every_other_spelling_is_refused(url: str) -> None:
    with pytest.raises(Refusal) as caught:
        read_target(url)
    assert caught.value.kind.code == "webhook.target_refused"


@pytest.mark.parametrize(
    "url",
    [
        "https://crm.example.com",
        "https://crm.example.com/hooks?token=a%20b&x=1",
        "https://crm.example.com:8443/hooks",
        "https://xn--80aswg.xn--p1ai/hooks",
        "https://3com.example/",
        "https://hooks.internal.example.com/",
    ],
)
def test_plain_urls_pass(url: str) -> None:
    assert read_target(url).url == url


@given(st.text(max_size=60))
def test_no_text_is_more_than_refused(text: str) -> None:
    for url in (text, f"https://{text}", f"https://crm.example.com{text}", f"https://{text}.example.com/"):
        try:
            target = read_target(url)
        except Refusal:
            continue
        assert target.host == target.host.lower()
        assert ":" in target.host or "." in target.host


def test_hosts_that_the_deployment_vouches_for_may_be_inside_and_without_tls() -> None:
    exempt = {"crm", "127.0.0.1", "::1"}
    assert read_target("http://crm:81/hooks", exempt).is_exempt
    assert read_target("http://127.0.0.1:9/", exempt).port == 9
    assert read_target("http://[::1]/", exempt).port == 80
    assert not read_target("https://crm.example.com/", exempt).is_exempt
    for url in ("http://crm.example.com/", "http://127.0.0.2/", "http://crm./", "http://other:81/"):
        with pytest.raises(Refusal):
            read_target(url, exempt)
