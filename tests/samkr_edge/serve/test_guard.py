"""Who is let in: on the loopback this machine's own browser and no site in it, elsewhere who has the link."""

import re
from pathlib import Path

import pytest
from served_page import Page, served

PAGE = Path(__file__).parents[3] / "samkr_edge/serve/page"


def cookie(page: Page) -> str:
    """What a browser keeps after opening the link."""
    answer = page.get(f"/?token={page.server.token}")
    assert answer.status == 303
    assert answer.headers["location"] == "/"
    assert re.search("httponly", answer.headers["set-cookie"], re.IGNORECASE)
    return answer.headers["set-cookie"].partition(";")[0]


def test_the_page_is_three_files_and_loads_nothing_from_elsewhere() -> None:
    with served() as page:
        for path, name in {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js"}.items():
            answer = page.get(path)
            assert answer.status == 200
            assert answer.body == (PAGE / name).read_bytes()
            assert not re.findall(rb"https?://(?!www\.w3\.org/2000/svg)", answer.body)


@pytest.mark.parametrize("path", ["/", "/facts", "/nothing", "/pictures"])
def test_every_answer_forbids_frames_sniffing_and_caches(path: str) -> None:
    with served() as page:
        headers = page.get(path).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert "server" not in headers


@pytest.mark.parametrize("host", ["localhost", "localhost:9000", "127.0.0.1:8080", "[::1]:8080", "127.5.5.5"])
def test_on_the_loopback_this_machine_is_asked_by_its_own_names(host: str) -> None:
    with served() as page:
        assert page.get("/", Host=host).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "localhost.evil.example", "192.168.0.2", "", "[", "[::1"]
)
def test_on_the_loopback_a_name_that_was_pointed_here_is_refused(host: str) -> None:
    with served() as page:
        for path in ("/", "/facts", "/pictures?viewer=viewer01&after=0", "/page.js"):
            assert page.get(path, Host=host).status == 403


def test_the_page_of_another_site_gets_nothing() -> None:
    with served() as page:
        own = f"http://{page.host}:{page.port}"
        assert page.get("/facts", Origin="http://evil.example").status == 403
        assert page.get("/facts", Origin="null").status == 403
        assert page.get("/facts", Sec_Fetch_Site="cross-site").status == 403
        assert page.get("/pictures?viewer=viewer01&after=0", Sec_Fetch_Site="same-site").status == 403
        assert page.get("/facts", Origin=own, Sec_Fetch_Site="same-origin").status == 200
        # Following a link to the page itself is what links are for.
        assert page.get("/", Sec_Fetch_Site="cross-site").status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
def test_nothing_can_be_changed_by_a_request(method: str) -> None:
    with served() as page:
        assert page.get("/", method=method).status == 405


def test_elsewhere_every_request_needs_the_token() -> None:
    with served(place="0.0.0.0:0") as page:
        assert page.server.token is not None
        assert page.server.token in page.server.link
        local = Page(page.server, page.live, "127.0.0.1", page.port)
        for path in ("/", "/page.js", "/page.css", "/facts", "/pictures?viewer=viewer01&after=0", "/nothing"):
            for wrong in ("", "?token=", "?token=wrong", f"?token={page.server.token}x"):
                assert local.get(path + wrong if "?" not in path else path).status == 401
        kept = cookie(local)
        assert page.server.token in kept
        # A browser would complain of it in its console at every address but the loopback.
        assert "cross-origin-opener-policy" not in local.get("/", Cookie=kept).headers
        with page.running():
            for path in ("/", "/page.js", "/facts", "/pictures?viewer=viewer01&after=0"):
                assert local.get(path, Cookie=kept).status == 200
        assert local.get("/facts", Cookie=kept[:-1]).status == 401
        # The token in the address of anything but the page itself is no way in.
        assert local.get(f"/facts?token={page.server.token}").status == 401


def test_a_token_is_new_every_time_and_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(
        "samkr_edge.serve.guard.secrets.compare_digest",
        lambda *pair: asked.append(pair) or pair[0] == pair[1],
    )
    tokens = set()
    for _ in range(2):
        with served(place="0.0.0.0:0") as page:
            local = Page(page.server, page.live, "127.0.0.1", page.port)
            assert local.get("/?token=%C3%A9").status == 401
            tokens.add(page.server.token)
    assert len(tokens) == 2
    assert asked


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/page/page.html",
        "/page.html",
        "//etc/passwd",
        "/page.js/..",
        "/%2e%2e/guard.py",
        "/.",
        "/page/",
        "/facts/",
        "/static",
        "/page.js%00.html",
    ],
)
def test_no_other_file_and_no_folder_is_served(path: str) -> None:
    with served() as page:
        answer = page.get(path)
        assert answer.status in (400, 404)
        assert b"root:" not in answer.body
        assert b"samkr" not in answer.body


def test_the_address_of_ipv6_is_served_too() -> None:
    with served(place="[::1]:0") as page:
        assert page.server.link == f"http://[::1]:{page.port}/"
        assert page.get("/").status == 200
