"""The dashboards in short: what each panel shows, in which unit, by which query, and which setting moves it.

In: the metrics of ../docs/metrics.md and the recorded series of ../prometheus/recording.yml. Out: `ALL`, which generate.py writes.
Never: a metric that the catalogue does not have; tests run every query against a real Prometheus.
"""

from generate import GREEN, RED, YELLOW, Dashboard, Panel, Row, Variable

CLUSTER = Variable("cluster", "Cluster", "iguazu_breaker_state")
INSTANCE = Variable("instance", "Proxy", "iguazu_http_connections")
OWNER = Variable("owner", "Owner", "iguazu_event_type_info")
EVENT = Variable("event", "Event type", 'iguazu_event_type_info{owner=~"$owner"}')
MANAGED = Variable("cluster", "Cluster", "iguazu_control_reserved_bytes")

# A share of which all is too much, half a warning.
FILL = [(None, GREEN), (0.5, YELLOW), (0.8, RED)]
NONE_IS_GOOD = [(None, GREEN), (1, RED)]
SOME_IS_SUSPECT = [(None, GREEN), (1, YELLOW)]


ONE = '{instance=~"$instance"}'
EVENTS = '{event=~"$event"}'
SELECTED = '{cluster=~"$cluster", instance=~"$instance"}'


def per_second(counter: str, where: str = "", by: str = "") -> str:
    return f"sum{f' by ({by}) ' if by else ''}(rate({counter}{where}[$__rate_interval]))"


def quantile(share: float, series: str, by: str) -> str:
    return f"histogram_quantile({share}, sum by (le, {by}) (rate({series}[$__rate_interval])))"


def quantiles(series: str, by: str, *shares: float) -> list[tuple[str, str]]:
    legend = " ".join("{{" + label.strip() + "}}" for label in by.split(","))
    return [(quantile(share, series, by), f"p{share * 100:g} {legend}") for share in shares or (0.5, 0.99)]


OVERVIEW = Dashboard(
    "iguazu-overview",
    "Iguazu / Overview",
    "Whether events get through, and where they wait when they do not.",
    [INSTANCE],
    [
        Row(
            "The promise",
            [
                Panel(
                    "Delivered, last 30 minutes",
                    "percentunit",
                    "Share of the events that we took or should have taken which are in Kafka: what was refused through no fault of "
                    "the sender, failed or was lost counts against it. The objective is 99.99 %.",
                    [("1 - max(iguazu:undelivered:ratio30m)", "worst cluster")],
                    alert="IguazuDeliveryBudgetBurnsFast",
                    kind="number",
                    steps=[(None, RED), (0.999, YELLOW), (0.9999, GREEN)],
                    most=1,
                    width=4,
                ),
                Panel(
                    "Error budget left, 3 days",
                    "percentunit",
                    "What is left of the 0.01 % that may go wrong, as if the last three days were all. Below zero the objective is missed.",
                    [("1 - max(iguazu:undelivered:ratio3d) / 0.0001", "worst cluster")],
                    alert="IguazuDeliveryBudgetBurnsSlowly",
                    kind="number",
                    steps=[(None, RED), (0.1, YELLOW), (0.5, GREEN)],
                    least=None,
                    width=4,
                ),
                Panel(
                    "Lost",
                    "short",
                    "Events of whose fate nothing is known, since the proxies started. Anything but 0 is a bug.",
                    [('sum(iguazu_events_lost_total{instance=~"$instance"})', "lost")],
                    alert="IguazuEventsLost",
                    kind="number",
                    steps=NONE_IS_GOOD,
                    width=4,
                ),
                Panel(
                    "Events a second",
                    "short",
                    "Events that were read out of requests.",
                    [(per_second("iguazu_events_received_total", ONE), "received")],
                    kind="number",
                    width=4,
                ),
                Panel(
                    "Clusters that take nothing",
                    "short",
                    "Clusters whose breaker is not closed at some proxy: their events wait on disk or go to a `failover` cluster.",
                    [('count(max by (cluster) (iguazu_breaker_state{instance=~"$instance"}) > 0) or vector(0)', "clusters")],
                    alert="IguazuClusterUnreachable",
                    kind="number",
                    steps=NONE_IS_GOOD,
                    width=4,
                ),
                Panel(
                    "Event types not available",
                    "short",
                    "Event types that some proxy cannot serve; its `/ready` says why.",
                    [('max(iguazu_event_types{state="unavailable", instance=~"$instance"})', "event types")],
                    alert="IguazuEventTypeUnavailable",
                    kind="number",
                    steps=SOME_IS_SUSPECT,
                    width=4,
                ),
            ],
        ),
        Row(
            "What comes in and what becomes of it",
            [
                Panel(
                    "Outcomes",
                    "short",
                    "Events a second: received, and what became of them. `delivered` lies over `received` while a spool empties.",
                    [
                        (per_second(f"iguazu_events_{name}_total", ONE) + " or vector(0)", name)
                        for name in ("received", "delivered", "rejected", "failed")
                    ],
                ),
                Panel(
                    "Replies by status",
                    "reqps",
                    "Requests a second by HTTP status. 4xx are the senders' mistakes, 503 is ours or Kafka's, 207 is a mixture.",
                    [(per_second("iguazu_http_requests_total", ONE, by="status"), "{{status}}")],
                    stacked=True,
                ),
                Panel(
                    "Results by code",
                    "short",
                    "What replies said of events, a second, by code; `errors.md` says what each means.",
                    [(per_second("iguazu_http_results_total", ONE, by="code"), "{{code}}")],
                    alert="IguazuRejectedRatioHigh",
                    stacked=True,
                ),
                Panel(
                    "Time to the reply",
                    "s",
                    "From a request's head to its reply, by door. Where replies wait for acknowledgements it holds `linger_ms` and Kafka's time.",
                    quantiles('iguazu_http_request_duration_seconds_bucket{instance=~"$instance"}', "door"),
                    knob="`reply` of the event types, `linger_ms`; `http.workers` when the CPU is full.",
                ),
                Panel(
                    "Requests refused whole",
                    "reqps",
                    "Requests of which no event was taken, by code: a body that cannot be parsed, no key, too many bytes in flight.",
                    [(per_second("iguazu_http_refused_total", ONE, by="code"), "{{code}}")],
                    knob="`http.in_flight_bytes_max` and `http.connections_max` for `overloaded`.",
                    alert="IguazuOverloaded",
                ),
                Panel(
                    "Events of a request",
                    "short",
                    "How many events a request holds. The more, the less each costs.",
                    quantiles('iguazu_http_request_events_bucket{instance=~"$instance"}', "door", 0.5, 0.9),
                    knob="the senders' batching; `http.batch_events_max` is the limit.",
                ),
            ],
        ),
        Row(
            "Where events wait",
            [
                Panel(
                    "Events in memory and on disk",
                    "short",
                    "Events in producers' buffers and in spools now.",
                    [
                        ('sum(iguazu_events_in_memory{instance=~"$instance"})', "in memory"),
                        ('sum(iguazu_events_in_spool{instance=~"$instance"})', "in the spool"),
                    ],
                ),
                Panel(
                    "Producer buffers",
                    "percentunit",
                    "Fill of each producer's buffer, of the fullest proxy. Full is answered 503 `buffer_full`, or goes to the spool.",
                    [
                        (
                            'max by (cluster, lane) (iguazu_producer_buffer_bytes{instance=~"$instance"}'
                            ' / iguazu_producer_buffer_max_bytes{instance=~"$instance"})',
                            "{{cluster}} {{lane}}",
                        )
                    ],
                    knob="`buffer_bytes_max` of the cluster; more proxies.",
                    alert="IguazuBufferHigh",
                    steps=FILL,
                    most=1,
                ),
                Panel(
                    "Spool",
                    "percentunit",
                    "Fill of each spool, of the fullest proxy. When it is full new events are answered 503.",
                    [
                        (
                            'max by (cluster, log) (iguazu_spool_bytes{instance=~"$instance"} / iguazu_spool_max_bytes{instance=~"$instance"})',
                            "{{cluster}} {{log}}",
                        )
                    ],
                    knob="`spool.bytes_max`, and the disk below it.",
                    alert="IguazuSpoolFilling",
                    steps=FILL,
                    most=1,
                ),
            ],
        ),
        Row(
            "Signs of trouble",
            [
                Panel(
                    "Alerts that fire",
                    "short",
                    "Alerts of ours that fire, by name.",
                    [('sum by (alertname, severity) (ALERTS{alertname=~"Iguazu.*", alertstate="firing"})', "{{alertname}} {{severity}}")],
                    stacked=True,
                ),
                Panel(
                    "Log lines at warn and error",
                    "short",
                    "Lines a second that the log has at `warn` (what is tried again) and at `error` (what loses or refuses something).",
                    [(per_second("iguazu_log_lines_total", ONE, by="level"), "{{level}}")],
                    knob="`logs.md` says what each line means.",
                ),
                Panel(
                    "Configuration",
                    "short",
                    "Different configurations in force among the proxies, and configurations that were refused on reload in the last hour.",
                    [
                        ('count(count_values("fingerprint", iguazu_config_fingerprint{instance=~"$instance"}))', "different"),
                        ('sum(increase(iguazu_config_reloads_total{result="refused", instance=~"$instance"}[1h]))', "refused"),
                    ],
                    alert="IguazuConfigRefused",
                ),
            ],
        ),
    ],
)

EVENT_TYPE = Dashboard(
    "iguazu-event",
    "Iguazu / Event type",
    "What becomes of the events of one event type, for the team that owns it.",
    [OWNER, EVENT],
    [
        Row(
            "Whose it is",
            [
                Panel(
                    "Event types",
                    "short",
                    "Event types chosen above: their owner, cluster and topic.",
                    [('max by (event, owner, cluster, topic) (iguazu_event_type_info{event=~"$event", owner=~"$owner"})', "")],
                    kind="table",
                    width=12,
                ),
                Panel(
                    "Rejected share",
                    "percentunit",
                    "Share of the received events that were refused for what the sender sent, by event type.",
                    [('max by (event) (iguazu:rejected:ratio5m{event=~"$event"})', "{{event}}")],
                    alert="IguazuRejectedRatioHigh",
                    kind="bars",
                    steps=[(None, GREEN), (0.01, YELLOW), (0.05, RED)],
                    most=1,
                    width=12,
                ),
            ],
        ),
        Row(
            "Events a second",
            [
                Panel(
                    "Received",
                    "short",
                    "Events that came in, each second.",
                    [(per_second("iguazu_events_received_total", EVENTS, by="event"), "{{event}}")],
                ),
                Panel(
                    "Delivered",
                    "short",
                    "Events that Kafka acknowledged, those in a `failover` cluster included.",
                    [
                        (per_second("iguazu_events_delivered_total", EVENTS, by="event"), "{{event}}"),
                        (per_second("iguazu_events_delivered_elsewhere_total", EVENTS, by="event"), "{{event}} elsewhere"),
                    ],
                ),
                Panel(
                    "Rejected by code",
                    "short",
                    "Events that the reply refused, by code. The last hundred of each event type are at `/rejections/EVENT` of the admin listener.",
                    [(per_second("iguazu_events_rejected_total", EVENTS, by="event, code"), "{{event}} {{code}}")],
                    knob="the sender; `unknown_fields`, `limits` and `missing_key` of the event type.",
                    alert="IguazuRejectedRatioHigh",
                    stacked=True,
                ),
                Panel(
                    "Failed by code",
                    "short",
                    "Events that were accepted and that Kafka then refused for good, since the proxies started.",
                    [('sum by (event, code) (iguazu_events_failed_total{event=~"$event"})', "{{event}} {{code}}")],
                    alert="IguazuEventsFailed",
                ),
                Panel(
                    "Where failed events are kept",
                    "short",
                    "Failed events since the proxies started, by where `iguazu redrive` finds them.",
                    [('sum by (event, place) (iguazu_events_failed_kept_total{event=~"$event"})', "{{event}} {{place}}")],
                    knob="`dead_letter` of the event type, `failed.bytes_max`.",
                    alert="IguazuEventsKeptNowhere",
                ),
                Panel(
                    "Dead letters",
                    "short",
                    "Rejected events that are in the dead-letter topic, and those that are not, by why.",
                    [
                        (per_second("iguazu_dead_letters_sent_total", EVENTS, by="event"), "{{event}} sent"),
                        (per_second("iguazu_dead_letters_dropped_total", EVENTS, by="event, reason"), "{{event}} {{reason}}"),
                    ],
                    knob="`dead_letters.events_per_second` and `dead_letters.sample_one_in`.",
                    alert="IguazuDeadLettersDropped",
                ),
            ],
        ),
        Row(
            "Size and waiting",
            [
                Panel(
                    "Bytes of an event",
                    "bytes",
                    "Payload as it was sent, on average.",
                    [
                        (
                            per_second("iguazu_events_received_bytes_total", EVENTS, by="event")
                            + f" / ({per_second('iguazu_events_received_total', EVENTS, by='event')} > 0)",
                            "{{event}}",
                        )
                    ],
                    knob="`limits.event_bytes_max` of the event type.",
                ),
                Panel(
                    "In memory and on disk",
                    "short",
                    "Events in a producer's buffer and in the spool.",
                    [
                        ('sum by (event) (iguazu_events_in_memory{event=~"$event"})', "{{event}} in memory"),
                        ('sum by (event) (iguazu_events_in_spool{event=~"$event"})', "{{event}} in the spool"),
                    ],
                ),
                Panel(
                    "Share of the buffer",
                    "percentunit",
                    "Of what the event type may take of its producer's buffer, at the fullest proxy. Beyond it its events go to the spool.",
                    [
                        (
                            'max by (event) (iguazu_events_in_memory_bytes{event=~"$event"} / iguazu_events_in_memory_max_bytes{event=~"$event"})',
                            "{{event}}",
                        )
                    ],
                    knob="`buffer_bytes_max` of the event type.",
                    alert="IguazuBufferHigh",
                    steps=FILL,
                    most=1,
                ),
            ],
        ),
        Row(
            "Quality",
            [
                Panel(
                    "Events with fields left out",
                    "short",
                    "Events a second with a field that the schema does not have and that was dropped.",
                    [(per_second("iguazu_events_fields_dropped_total", EVENTS, by="event"), "{{event}}")],
                    knob="`unknown_fields` of the event type; a newer schema.",
                ),
                Panel(
                    "Events that went without their key",
                    "short",
                    "Events a second whose key came more often than one partition could take.",
                    [(per_second("iguazu_events_hot_key_total", EVENTS, by="event"), "{{event}}")],
                    knob="`hot_key_events_per_second` of the event type.",
                ),
                Panel(
                    "Known too late for the reply",
                    "short",
                    "Events a second whose reply said `unknown` or `spooled` because their fate was not known in time.",
                    [(per_second("iguazu_events_late_total", EVENTS, by="event"), "{{event}}")],
                    knob="`http.ack_timeout_seconds`, `message_timeout_ms`.",
                ),
                Panel(
                    "Cannot be served",
                    "short",
                    "Event types among those chosen above that some proxy cannot serve: their events are answered 503, and `/ready` says why.",
                    [
                        (
                            'count(count by (event) (iguazu_event_type_unavailable{event=~"$event"})) or vector(0)',
                            "event types",
                        )
                    ],
                    alert="IguazuEventTypeUnavailable",
                    steps=SOME_IS_SUSPECT,
                ),
            ],
        ),
    ],
)

BREAKER = {0: ("closed", GREEN), 1: ("half-open", YELLOW), 2: ("open", RED)}
CLUSTERS = Dashboard(
    "iguazu-clusters",
    "Iguazu / Clusters",
    "How each Kafka cluster and each schema registry does, as the proxies see them.",
    [CLUSTER, INSTANCE],
    [
        Row(
            "Whether it takes records",
            [
                Panel(
                    "Breaker",
                    "short",
                    "Whether the cluster takes records. Open: nothing was acknowledged for `breaker_open_after_ms`, and what comes waits on disk.",
                    [(f"max by (cluster) (iguazu_breaker_state{SELECTED})", "{{cluster}}")],
                    knob="`breaker_open_after_ms`, `breaker_retry_after_ms`.",
                    alert="IguazuClusterUnreachable",
                    kind="states",
                    names=BREAKER,
                ),
                Panel(
                    "Canary",
                    "short",
                    "Whether every broker that leads a routed partition has acknowledged a canary record.",
                    [(f"min by (cluster, lane) (iguazu_canary_acknowledged{SELECTED})", "{{cluster}} {{lane}}")],
                    knob="`canary_topic` of the cluster.",
                    alert="IguazuCanaryMissing",
                    kind="states",
                    names={0: ("missing", RED), 1: ("acknowledged", GREEN)},
                ),
                Panel(
                    "Oldest unacknowledged record",
                    "s",
                    "The first sign of a sick cluster, because the client tries again in silence.",
                    [(f"max by (cluster, lane) (iguazu_producer_oldest_unacknowledged_seconds{SELECTED})", "{{cluster}} {{lane}}")],
                    knob="`message_timeout_ms` is where the client gives up.",
                    alert="IguazuAckSlow",
                    steps=[(None, GREEN), (5, YELLOW), (15, RED)],
                ),
            ],
        ),
        Row(
            "Latency and batching",
            [
                Panel(
                    "Time to the acknowledgement",
                    "s",
                    "From handing a record to the client to its acknowledgement, linger included.",
                    quantiles(f"iguazu_producer_ack_latency_seconds_bucket{SELECTED}", "cluster, lane"),
                    knob="`linger_ms`, `slow_linger_ms`, `acks` of the event types.",
                    alert="IguazuAckSlow",
                ),
                Panel(
                    "Kafka's share of it",
                    "s",
                    "99th percentile of a request to the slowest broker, without linger and queue.",
                    [(f"max by (cluster, lane) (iguazu_producer_broker_ack_seconds{SELECTED})", "{{cluster}} {{lane}}")],
                    alert="IguazuAckSlow",
                ),
                Panel(
                    "Records of a batch",
                    "short",
                    "Records that share a batch. Below ten the brokers pay for requests rather than for records.",
                    [
                        (
                            per_second("iguazu_producer_acknowledged_total", SELECTED, by="cluster, lane")
                            + f" / ({per_second('iguazu_producer_batches_total', SELECTED, by='cluster, lane')} > 0)",
                            "{{cluster}} {{lane}}",
                        )
                    ],
                    knob="`linger_ms`; `low_rate = true` for event types that send little; fewer partitions.",
                ),
                Panel(
                    "Produce requests",
                    "reqps",
                    "Requests a second to the brokers: what costs them CPU.",
                    [(per_second("iguazu_producer_requests_total", SELECTED, by="cluster, lane"), "{{cluster}} {{lane}}")],
                    knob="`linger_ms`.",
                ),
                Panel(
                    "Bytes sent to brokers",
                    "Bps",
                    "Compressed, with everything around them.",
                    [(per_second("iguazu_producer_sent_bytes_total", SELECTED, by="cluster, lane"), "{{cluster}} {{lane}}")],
                    knob="`compression`.",
                ),
                Panel(
                    "Records in flight",
                    "short",
                    "Records that wait for their delivery report.",
                    [(f"sum by (cluster, lane) (iguazu_producer_in_flight_records{SELECTED})", "{{cluster}} {{lane}}")],
                    knob="`buffer_bytes_max`.",
                    alert="IguazuBufferHigh",
                ),
            ],
        ),
        Row(
            "What goes wrong",
            [
                Panel(
                    "Records given up",
                    "short",
                    "Records a second that the client gave up, by reason. Those that waited too long go to the spool.",
                    [(per_second("iguazu_producer_failures_total", SELECTED, by="cluster, reason"), "{{cluster}} {{reason}}")],
                    alert="IguazuEventsFailed",
                ),
                Panel(
                    "Errors of connections",
                    "short",
                    "Errors a second of the client's connections, by kind.",
                    [(per_second("iguazu_producer_errors_total", SELECTED, by="cluster, kind"), "{{cluster}} {{kind}}")],
                    alert="IguazuClusterUnreachable",
                ),
                Panel(
                    "Breakers that opened",
                    "short",
                    "How often a breaker opened in the last hour. Often and short: `breaker_open_after_ms` is too small for this cluster.",
                    [(f'sum by (cluster) (increase(iguazu_breaker_transitions_total{{cluster=~"$cluster", instance=~"$instance", state="open"}}[1h]))', "{{cluster}}")],
                    knob="`breaker_open_after_ms`.",
                    alert="IguazuClusterUnreachable",
                ),
            ],
        ),
        Row(
            "The disk beside it",
            [
                Panel(
                    "Spool",
                    "bytes",
                    "Bytes that wait on disk, and their limit.",
                    [
                        (f"sum by (cluster, log) (iguazu_spool_bytes{SELECTED})", "{{cluster}} {{log}}"),
                        (f"sum by (cluster, log) (iguazu_spool_max_bytes{SELECTED})", "{{cluster}} {{log}} limit"),
                    ],
                    knob="`spool.bytes_max`.",
                    alert="IguazuSpoolFilling",
                ),
                Panel(
                    "In and out of the spool",
                    "short",
                    "Events a second that were written, and that were settled from there.",
                    [
                        (per_second("iguazu_spool_written_total", SELECTED, by="cluster, log"), "{{cluster}} {{log}} written"),
                        (per_second("iguazu_spool_replayed_total", SELECTED, by="cluster, log"), "{{cluster}} {{log}} settled"),
                    ],
                    alert="IguazuSpoolFullSoon",
                ),
                Panel(
                    "Oldest event in the spool",
                    "s",
                    "How long the oldest event has waited.",
                    [(f"max by (cluster, log) (iguazu_spool_oldest_seconds{SELECTED})", "{{cluster}} {{log}}")],
                    alert="IguazuSpoolFilling",
                ),
                Panel(
                    "Refused by the spool",
                    "short",
                    "Events a second that the disk did not take, by reason: they were answered 503, or have failed.",
                    [(per_second("iguazu_spool_refused_total", SELECTED, by="cluster, reason"), "{{cluster}} {{reason}}")],
                    knob="`spool.bytes_max`; a faster disk, or `spool.fsync_interval_ms`, for `behind`.",
                    alert="IguazuSpoolRefuses",
                ),
                Panel(
                    "Trouble with the disk",
                    "short",
                    "Errors a second of the disk, and 1 while it takes nothing.",
                    [
                        (per_second("iguazu_spool_errors_total", SELECTED, by="cluster, kind"), "{{cluster}} {{kind}}"),
                        (f"max by (cluster) (iguazu_spool_failing{SELECTED})", "{{cluster}} takes nothing"),
                    ],
                    alert="IguazuSpoolDiskFailing",
                ),
                Panel(
                    "Failed log",
                    "percentunit",
                    "Fill of the log of what Kafka refused for good. When it is full such records are kept nowhere.",
                    [
                        (
                            f"max by (cluster) (iguazu_failed_log_bytes{SELECTED} / (iguazu_failed_log_max_bytes{SELECTED} > 0))",
                            "{{cluster}}",
                        )
                    ],
                    knob="`failed.bytes_max`; `iguazu redrive` empties it.",
                    alert="IguazuFailedLogFilling",
                    steps=FILL,
                    most=1,
                ),
            ],
        ),
        Row(
            "Schema registries",
            [
                Panel(
                    "Schemas not checked for",
                    "s",
                    "For how long schemas have been served without a check that they are the newest. Events flow meanwhile.",
                    [('max by (registry) (iguazu_registry_stale_seconds{instance=~"$instance"})', "{{registry}}")],
                    knob="`schema_refresh_seconds`; the registry's `urls`.",
                    alert="IguazuRegistryStale",
                    steps=[(None, GREEN), (300, YELLOW), (1800, RED)],
                ),
                Panel(
                    "Look-ups",
                    "short",
                    "Look-ups a second: out of memory, asked of the registry, not answered.",
                    [
                        (per_second("iguazu_registry_lookups_total", ONE, by="registry, outcome"), "{{registry}} {{outcome}}"),
                        (per_second("iguazu_registry_requests_total", ONE, by="registry"), "{{registry}} requests"),
                    ],
                    knob="`schema_refresh_seconds`, `negative_ttl_ms`.",
                    alert="IguazuRegistryStale",
                ),
                Panel(
                    "Schema versions",
                    "short",
                    "Versions that are loaded and compiled, and those that are of no use and left out.",
                    [
                        ('max by (registry) (iguazu_schema_versions{instance=~"$instance"})', "{{registry}} loaded"),
                        ('max by (registry) (iguazu_schema_versions_left_out{instance=~"$instance"})', "{{registry}} left out"),
                    ],
                    alert="IguazuSchemaVersionsLeftOut",
                ),
            ],
        ),
    ],
)

YEAR = 365 * 86400

CONTROL = Dashboard(
    "iguazu-control",
    "Iguazu / Control plane",
    "What teams ask of the control plane, what is left of each cluster, and whether the proxies have the routes of now.",
    [MANAGED],
    [
        Row(
            "What is asked for",
            [
                Panel(
                    "Requests by state",
                    "short",
                    "Requests in the store by how far they have come.",
                    [("max by (state) (iguazu_control_requests)", "{{state}}")],
                    stacked=True,
                ),
                Panel(
                    "Longest wait",
                    "s",
                    "How long the oldest request of each state has been in it. `pending` waits for a person.",
                    [("max by (state) (iguazu_control_requests_oldest_seconds)", "{{state}}")],
                    knob="the policy: what is decided without a person.",
                    alert="IguazuControlRequestsStuck",
                ),
                Panel(
                    "Decisions",
                    "short",
                    "What the rules made of changes, in the last hour.",
                    [("sum by (decision) (increase(iguazu_control_decisions_total[1h]))", "{{decision}}")],
                    knob="the policy (`iguazu ctl policy`).",
                ),
                Panel(
                    "Time to ready",
                    "s",
                    "From asking to `ready` or `failed`, waiting for people included.",
                    [
                        (
                            f"histogram_quantile({share}, sum by (le, result) (rate(iguazu_control_time_to_ready_seconds_bucket[1h])))",
                            f"p{share * 100:g} {{{{result}}}}",
                        )
                        for share in (0.5, 0.95)
                    ],
                ),
                Panel(
                    "API by status",
                    "reqps",
                    "Requests a second that the API answered.",
                    [(per_second("iguazu_control_http_requests_total", by="status"), "{{status}}")],
                    alert="IguazuControlErrors",
                    stacked=True,
                ),
                Panel(
                    "Not let in",
                    "reqps",
                    "Requests a second of callers that were not let in, by reason.",
                    [(per_second("iguazu_control_refused_total", by="reason"), "{{reason}}")],
                    knob="`control.requests_per_second` for `rate_limited`.",
                ),
            ],
        ),
        Row(
            "What is left of the clusters",
            [
                Panel(
                    "Reserved",
                    "percentunit",
                    "Share of each cluster's budget that is spoken for: disk, partitions, bytes a second.",
                    [
                        (
                            f'max by (cluster) (iguazu_control_reserved_{what}{{cluster=~"$cluster"}}'
                            f' / iguazu_control_budget_{what}{{cluster=~"$cluster"}})',
                            f"{{{{cluster}}}} {name}",
                        )
                        for what, name in (("bytes", "disk"), ("partitions", "partitions"), ("ingress_bytes_per_second", "ingress"))
                    ],
                    knob="`disk_bytes`, `partitions_max`, `ingress_bytes_per_second` of the cluster; more brokers.",
                    alert="IguazuBudgetRunsOut",
                    steps=[(None, GREEN), (0.7, YELLOW), (0.85, RED)],
                ),
                Panel(
                    "Fullest broker's disk",
                    "percentunit",
                    "Share of the fullest broker's disks that is in use, by whatever. From 80 % nothing grows without a person.",
                    [('max by (cluster) (iguazu_control_disk_used_ratio{cluster=~"$cluster"})', "{{cluster}}")],
                    alert="IguazuClusterDiskFull",
                    steps=[(None, GREEN), (0.7, YELLOW), (0.85, RED)],
                    most=1,
                ),
                Panel(
                    "Until a disk is full",
                    "s",
                    "At the rate of now, of the broker that is first. A year stands for a year or longer.",
                    [
                        (
                            f'min by (cluster) (clamp_max(iguazu_control_disk_full_timestamp_seconds{{cluster=~"$cluster"}} - time(), {YEAR}))'
                            f' or max by (cluster) (iguazu_control_disk_used_ratio{{cluster=~"$cluster"}} * 0 + {YEAR})',
                            "{{cluster}}",
                        )
                    ],
                    alert="IguazuClusterDiskFull",
                    steps=[(None, RED), (3 * 86400, YELLOW), (14 * 86400, GREEN)],
                ),
                Panel(
                    "Findings",
                    "short",
                    "What is not as it should be, by kind; `iguazu ctl findings` says more.",
                    [('max by (cluster, kind, severity) (iguazu_control_findings{cluster=~"$cluster"})', "{{cluster}} {{kind}} {{severity}}")],
                    alert="IguazuDriftFound",
                    stacked=True,
                ),
                Panel(
                    "Last looked at",
                    "s",
                    "Time since each cluster was last looked at with success.",
                    [('min by (cluster) (iguazu_control_observed_age_seconds{cluster=~"$cluster"})', "{{cluster}}")],
                    alert="IguazuClusterNotObserved",
                ),
                Panel(
                    "Store",
                    "short",
                    "Whether the store answers.",
                    [("min by (instance) (iguazu_control_store_up)", "{{instance}}")],
                    alert="IguazuControlStoreDown",
                    kind="states",
                    names={0: ("down", RED), 1: ("up", GREEN)},
                ),
            ],
        ),
        Row(
            "Routes on their way to the proxies",
            [
                Panel(
                    "Age of the proxies' routes",
                    "s",
                    "Time since the control plane last told a proxy what is in force. Events flow meanwhile, by the last good routes.",
                    [("max by (instance) (iguazu_routes_age_seconds and iguazu_routes_revision > 0)", "{{instance}}")],
                    alert="IguazuRoutesOld",
                    steps=[(None, GREEN), (120, YELLOW), (600, RED)],
                ),
                Panel(
                    "Behind the newest routes",
                    "s",
                    "How much older a proxy's routes are than the newest that the control plane has.",
                    [
                        (
                            "clamp_min((scalar(max(iguazu_control_routes_revision)) - max by (instance) (iguazu_routes_revision > 0)) / 1000, 0)",
                            "{{instance}}",
                        )
                    ],
                    alert="IguazuRoutesOld",
                ),
                Panel(
                    "Routes held back or refused",
                    "short",
                    "Event types and senders that are at their last good version or left out, and documents that were refused whole.",
                    [
                        ("max(iguazu_routes_held)", "held"),
                        ("sum(increase(iguazu_routes_refused_total[1h]))", "refused"),
                    ],
                    alert="IguazuRoutesHeld",
                    steps=SOME_IS_SUSPECT,
                ),
                Panel(
                    "Proxies that ask for routes",
                    "short",
                    "As the control plane counts them.",
                    [("max(iguazu_control_proxies)", "proxies")],
                ),
                Panel(
                    "Until certificates end",
                    "s",
                    "Of listeners, of clients, of authorities that we believe.",
                    [("min by (instance, use, name) (iguazu_certificate_expiry_timestamp_seconds) - time()", "{{use}} {{name}} {{instance}}")],
                    alert="IguazuCertificateExpires",
                    steps=[(None, RED), (3 * 86400, YELLOW), (21 * 86400, GREEN)],
                    least=None,
                ),
                Panel(
                    "Until credentials end",
                    "s",
                    "Tokens of the API that end soonest.",
                    [("min by (kind, name) (iguazu_credential_expiry_timestamp_seconds) - time() > -86400", "{{kind}} {{name}}")],
                    alert="IguazuCredentialExpires",
                    steps=[(None, RED), (3 * 86400, YELLOW), (14 * 86400, GREEN)],
                    least=None,
                ),
            ],
        ),
    ],
)

CPU = f"sum by (instance) (rate(iguazu_process_cpu_seconds_total{ONE}[5m]))"

CAPACITY = Dashboard(
    "iguazu-capacity",
    "Iguazu / Capacity",
    "How much of a proxy is used, what an event costs, and how long an outage it would bridge.",
    [INSTANCE],
    [
        Row(
            "What an event costs",
            [
                Panel(
                    "CPU",
                    "short",
                    "Cores in use by each proxy.",
                    [(CPU, "{{instance}}")],
                    knob="`http.workers`; more proxies. The autoscaler of the chart goes by this.",
                ),
                Panel(
                    "CPU of an event",
                    "s",
                    "CPU time by events received, over five minutes. Small batches and large payloads cost more.",
                    [(f"{CPU} / (sum by (instance) (rate(iguazu_events_received_total{ONE}[5m])) > 0)", "{{instance}}")],
                    knob="the senders' batching; `envelope = \"single\"`; `compression`.",
                ),
                Panel(
                    "Time to make a record",
                    "s",
                    "From an admitted event to its record, by encoding; one in 64 is measured.",
                    quantiles(f"iguazu_transcode_duration_seconds_bucket{ONE}", "encoding"),
                    knob="`encoding` and the schema of the event types.",
                ),
            ],
        ),
        Row(
            "What is used of the limits",
            [
                Panel(
                    "Memory",
                    "bytes",
                    "Memory in RAM.",
                    [(f"max by (instance) (iguazu_process_resident_memory_bytes{ONE})", "{{instance}}")],
                    knob="`buffer_bytes_max` of each cluster, `http.in_flight_bytes_max`.",
                ),
                Panel(
                    "Connections",
                    "percentunit",
                    "Of `http.connections_max`; more are refused.",
                    [(f"max by (instance) (iguazu_http_connections{ONE} / iguazu_http_connections_max{ONE})", "{{instance}}")],
                    knob="`http.connections_max`.",
                    alert="IguazuConnectionsRefused",
                    steps=FILL,
                    most=1,
                ),
                Panel(
                    "Bytes in flight",
                    "percentunit",
                    "Bodies being read or worked on, of `http.in_flight_bytes_max`; beyond it requests are answered 503.",
                    [(f"max by (instance) (iguazu_http_in_flight_bytes{ONE} / iguazu_http_in_flight_max_bytes{ONE})", "{{instance}}")],
                    knob="`http.in_flight_bytes_max`.",
                    alert="IguazuOverloaded",
                    steps=FILL,
                    most=1,
                ),
                Panel(
                    "File descriptors",
                    "percentunit",
                    "Open descriptors of their limit.",
                    [(f"max by (instance) (iguazu_process_open_fds{ONE} / iguazu_process_max_fds{ONE})", "{{instance}}")],
                    knob="the limit of the service (`ulimit -n`).",
                    alert="IguazuDescriptorsHigh",
                    steps=FILL,
                    most=1,
                ),
                Panel(
                    "New connections",
                    "short",
                    "Connections a second: accepted, refused, with a TLS handshake that failed. Many for few requests is a sender that keeps none.",
                    [
                        (per_second("iguazu_http_connections_accepted_total", ONE), "accepted"),
                        (per_second("iguazu_http_connections_refused_total", ONE), "refused"),
                        (per_second("iguazu_http_tls_failed_total", ONE), "TLS failed"),
                    ],
                    alert="IguazuConnectionsRefused",
                ),
                Panel(
                    "Threads",
                    "short",
                    "Threads, those of the Kafka clients included.",
                    [(f"max by (instance) (iguazu_process_threads{ONE})", "{{instance}}")],
                    knob="`http.workers`; a client for each cluster and lane.",
                ),
            ],
        ),
        Row(
            "How long an outage it bridges",
            [
                Panel(
                    "In memory",
                    "s",
                    "Room in the producers' buffers by the bytes that are delivered now: how long a cluster may take nothing before the spool is needed.",
                    [
                        (
                            f"min by (cluster) (sum by (instance, cluster) (iguazu_producer_buffer_max_bytes{ONE} - iguazu_producer_buffer_bytes{ONE})"
                            f" / (sum by (instance, cluster) (rate(iguazu_events_delivered_bytes_total{ONE}[5m])) > 0))",
                            "{{cluster}}",
                        )
                    ],
                    knob="`buffer_bytes_max`.",
                    alert="IguazuBufferHigh",
                ),
                Panel(
                    "On disk",
                    "s",
                    "Room in the spool by the bytes that are delivered now.",
                    [
                        (
                            'min by (cluster) (sum by (instance, cluster) (iguazu_spool_max_bytes{log="spool", instance=~"$instance"}'
                            ' - iguazu_spool_bytes{log="spool", instance=~"$instance"})'
                            f" / (sum by (instance, cluster) (rate(iguazu_events_delivered_bytes_total{ONE}[5m])) > 0))",
                            "{{cluster}}",
                        )
                    ],
                    knob="`spool.bytes_max`.",
                    alert="IguazuSpoolFullSoon",
                ),
                Panel(
                    "Up since",
                    "s",
                    "Time since each process started.",
                    [(f"time() - max by (instance) (iguazu_process_start_time_seconds{ONE})", "{{instance}}")],
                    alert="IguazuCrashLoop",
                ),
            ],
        ),
        Row(
            "How much is measured",
            [
                Panel(
                    "Event types without series of their own",
                    "short",
                    "Event types that count together as `(other)`.",
                    [(f"max(iguazu_event_types_unlabelled{ONE})", "event types")],
                    knob="`telemetry.event_types_max`.",
                    width=12,
                ),
                Panel(
                    "Spans",
                    "short",
                    "Spans a second of sampled requests, by what became of them.",
                    [
                        (per_second("iguazu_trace_spans_total", f'{{result="{result}", instance=~"$instance"}}') + " or vector(0)", result)
                        for result in ("exported", "dropped", "failed")
                    ],
                    knob="`telemetry.traces`.",
                    width=12,
                ),
            ],
        ),
    ],
)

ALL = [OVERVIEW, EVENT_TYPE, CLUSTERS, CONTROL, CAPACITY]
