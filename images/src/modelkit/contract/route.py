"""How the pods of a ModelDeployment share its traffic while versions change, and what they report about it.

The operator writes one RouteConfig to a ConfigMap that every pod mounts. A pod finds its own rule by the digest of its
version: a pod without a rule, without the file or with a file that it can't read answers everything itself. Pods
report a RouteReport at ROUTE_REPORT_PATH: counts only, never a value of a request.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

ROUTE_MOUNT = "/var/lib/modelloop/route"
ROUTE_FILE = "route.json"
ROUTE_REPORT_PATH = "/rollout"
"""GET, without a token like probes and metrics."""

REFUSED, ERROR, TIMEOUT, UNREACHABLE = "Refused", "Error", "Timeout", "Unreachable"
FAILURES = (REFUSED, ERROR, TIMEOUT, UNREACHABLE)
"""How a version fails at a request: 4xx where the other version answers, 5xx, not in time, no connection."""
INCOMPARABLE = "Incomparable"
"""It answered, but not with predictions that can be compared: other rows, or a regression that isn't finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerConfig:
    """The pods of another version, behind a Service of their own."""

    number: int
    http: str
    """`<host>:<port>` for REST; encrypted when the pods' own REST is."""
    grpc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleConfig:
    """What the pods of one version do with inference requests. All shares are percentages, with decimals."""

    other: str
    """Digest of the other version, one of RouteConfig.peers."""
    weight: float = 0.0
    """Share of the requests that the other version answers; when it can't, this one does."""
    compare: float = 0.0
    """Share of the requests that both versions score, whoever answers. Only one answer is given and captured."""
    is_guarded: bool = False
    """The other version answers what this one failed at (5xx)."""
    is_leaving: bool = False
    """These pods are on their way out: HTTP clients are asked to close their connections with the next answer, so that
    they come back to the version that the public Service selects by now."""
    timeout_seconds: float = 1.0
    """For the other version's answer, before this one answers itself."""
    sticky_header: str | None = None
    """Requests with the same value of this header (lower case) go to the same version. With weight 20, the keys are
    those of weight 10 and others."""
    sticky_column: str | None = None
    """As sticky_header, by the first row's value of this feature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteConfig:
    """The whole of route.json."""

    revision: str
    """Another one for every content."""
    measurement: str
    """Counts begin anew when this changes; a step of a rollout has one."""
    peers: Mapping[str, PeerConfig] = field(default_factory=dict)
    """By digest."""
    rules: Mapping[str, RuleConfig] = field(default_factory=dict)
    """By the digest of those who follow them."""
    labels: tuple[str, ...] = ()
    """`<host>:<port>` of the pods that compare answers: labels that one of them gets are told to the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyReport:
    """Durations as a histogram."""

    bounds: tuple[float, ...] = ()
    """Upper bounds in seconds, ascending; the last bucket is above all of them."""
    counts: tuple[int, ...] = ()
    """One more than bounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SideReport:
    """One version's part in a measurement, as the reporting pod saw it."""

    asked: int = 0
    """Requests that it was the first to be asked, and whose answer counts: not those that no version could answer
    because the client asked wrongly (4xx from both)."""
    answered: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    """asked - answered, by kind, one of FAILURES."""
    skipped: int = 0
    """Requests that were its share, of the answers or of the comparison, but weren't sent because it had failed too
    often in a row or had too much to do."""
    latency: LatencyReport = field(default_factory=LatencyReport)
    """Of its answers, from being asked to the answer; answers that were only compared are among them, and those that
    didn't come in time, in the last bucket. Without a rule, of all requests, from their head to the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairReport:
    """Requests that both versions scored: what each predicted, row by row."""

    requests: int = 0
    """Compared requests, with those that failed."""
    failed: int = 0
    """Requests of the comparison that the other version failed at while this one answered."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """failed by kind: one of FAILURES, or INCOMPARABLE."""
    rows: int = 0
    disagreements: int = 0
    """Classification: rows with different classes. Regression: rows that differ by more than half a standard
    deviation of this version's predictions in its profile (or of those so far, without a profile)."""
    shift_sum: float = 0.0
    """Of other - own: regression, predictions in those standard deviations; binary classification, probabilities of
    the second class; else 0."""
    shift_squares: float = 0.0
    own_counts: Mapping[str, int] = field(default_factory=dict)
    """Own predictions by class, or by bin (`0`, `1`, …) of this version's frozen bins for a regression."""
    other_counts: Mapping[str, int] = field(default_factory=dict)
    """The other version's, over the same classes or bins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelReport:
    """Compared rows whose truth has been told by /feedback."""

    rows: int = 0
    own_wins: int = 0
    """Classification: own prediction right, the other's wrong. Regression: own absolute error smaller."""
    other_wins: int = 0
    own_right: int = 0
    """Classification only: own prediction right."""
    other_right: int = 0
    own_loss: float = 0.0
    """Sum of the losses: 0 or 1 for a classification, the absolute error for a regression."""
    other_loss: float = 0.0
    difference_squares: float = 0.0
    """Sum of (other's loss - own loss) squared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteReport:
    """What one pod says of the route that it follows and of the versions' answers."""

    digest: str
    """The pod's own version."""
    revision: str = ""
    """Of the RouteConfig in effect; empty: none."""
    problem: str = ""
    """Why the newest file, or its rule for this version, isn't in effect."""
    measurement: str = ""
    other: str = ""
    """Digest of the rule's other version; empty without a rule."""
    is_classification: bool = True
    seconds: float = 0.0
    """Since the measurement began in this pod."""
    own_side: SideReport = field(default_factory=SideReport)
    """Also without a rule: the pod's own inference answers."""
    other_side: SideReport = field(default_factory=SideReport)
    pairs: PairReport = field(default_factory=PairReport)
    labels: LabelReport = field(default_factory=LabelReport)
