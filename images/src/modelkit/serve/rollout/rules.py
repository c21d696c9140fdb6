"""What a route must be like to be followed. Pure."""

import re
from math import isfinite

from modelkit.contract.route import RouteConfig, RuleConfig

MAX_SECONDS = 300.0
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")


def parse_place(address: str) -> tuple[str, int]:
    """Host and port of `<host>:<port>`, an IPv6 address in brackets; raises ValueError for anything else."""
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not colon or not host or not host.isascii() or not host.isprintable() or " " in host or "/" in host:
        raise ValueError(f"{address[:100]!r} isn't <host>:<port>")
    if not port.isdigit() or not 0 < int(port) < 65_536:
        raise ValueError(f"{address[:100]!r} has no port of 1 to 65535")
    return host, int(port)


def find_problem(config: RouteConfig, columns: frozenset[str]) -> str:
    """Why `config` can't be followed by a version with those columns; empty when it can."""
    try:
        for peer in config.peers.values():
            parse_place(peer.http)
            parse_place(peer.grpc)
        for place in config.labels:
            parse_place(place)
    except ValueError as exc:
        return str(exc)
    problems = (_rule_problem(config, digest, rule, columns) for digest, rule in config.rules.items())
    return next(filter(None, problems), "")


def _rule_problem(config: RouteConfig, digest: str, rule: RuleConfig, columns: frozenset[str]) -> str:
    where = f"the rule of {digest}"
    if rule.other not in config.peers:
        return f"{where} names {rule.other}, which isn't one of the peers"
    if rule.other == digest:
        return f"{where} names itself as the other version"
    for name, share in (("weight", rule.weight), ("compare", rule.compare)):
        if not 0 <= share <= 100:
            return f"{where} has a {name} of {share:g}; expected 0 to 100"
    if not isfinite(rule.timeout_seconds) or not 0 < rule.timeout_seconds <= MAX_SECONDS:
        return f"{where} has timeout_seconds of {rule.timeout_seconds:g}; expected more than 0, at most {MAX_SECONDS:g}"
    if rule.sticky_header is not None and not _HEADER.fullmatch(rule.sticky_header):
        return f"{where} has a sticky_header that is no header's name in lower case"
    if rule.sticky_column is not None and rule.sticky_column not in columns:
        return f"{where} has a sticky_column that is no feature of this version"
    return ""
