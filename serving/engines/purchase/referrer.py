"""The traffic class of a referrer: a small table of well-known hosts."""

# A name is matched against the host's registrable label (google in www.google.co.uk); a host with a dot, against the whole host.
_CLASSES: dict[str, tuple[str, ...]] = {
    "email": ("mail.google.com", "outlook.live.com", "outlook.office.com", "mail.yahoo.com", "gmx", "proton", "mailchimp", "list-manage"),
    "organic": ("google", "bing", "duckduckgo", "yahoo", "baidu", "yandex", "ecosia", "qwant", "startpage", "naver", "seznam", "kagi"),
    "social": (
        *("facebook", "instagram", "tiktok", "pinterest", "twitter", "x.com", "t.co", "youtube", "reddit", "linkedin", "lnkd"),
        *("snapchat", "threads", "tumblr", "vk", "weibo", "whatsapp", "telegram", "t.me", "bsky", "discord"),
    ),
    "paid": ("googleadservices", "doubleclick", "googlesyndication", "criteo", "taboola", "outbrain", "adform", "adnxs"),
}
_BY_NAME = {name: kind for kind, names in _CLASSES.items() for name in names}
_SECOND_LEVEL = frozenset({"co", "com", "net", "org", "ac", "gov", "edu", "ne", "or"})


def host_of(url: str) -> str:
    """Return the host of a URL in lower case, without user, port or `www.`; empty when there is none."""
    _, separator, rest = url.partition("//")
    authority = (rest if separator else url).replace("?", "/").replace("#", "/").partition("/")[0]
    return authority.rpartition("@")[2].partition(":")[0].strip(". ").lower().removeprefix("www.")


def traffic_class(referrer: str, page: str) -> str | None:
    """Return the traffic class of a visit to `page`, in the usual words of web analytics; None where the referrer does not determine it.

    direct: an empty referrer; email, organic (a search engine), social, paid: a host of the table; referral: any other site, if `page`
    is a full URL: without one it may be the shop itself.
    """
    if not referrer:
        return "direct"
    host, own = host_of(referrer), host_of(page)
    if "." not in host or (own and _site(host) == _site(own)):
        return None
    return _BY_NAME.get(host) or _BY_NAME.get(_site(host)) or ("referral" if own else None)


def _site(host: str) -> str:
    labels = host.split(".")
    if len(labels) > 2 and labels[-2] in _SECOND_LEVEL:
        return labels[-3]
    return labels[-2] if len(labels) > 1 else labels[0]
