"""Sizes of clusters from the measured cost of a gigabyte: the table of docs/cluster.md."""

# CPU seconds of a core for a gigabyte of FLV of 2.15 Mbit/s in merges of 40 ms: row `flv-40` of tests/bench.
CPU_OF_GIGABYTE = 0.74
# The bar of row `ingest-4000`: CPU seconds for a gigabyte that is pulled or published.
CPU_OF_INGEST = 1.0
BITRATE = 2_150_000
# Bytes of a full segment over Ethernet, with preamble and gap, and its payload.
WIRE, PAYLOAD = 1538, 1448
# Share of a core and of an interface that is used in calm times.
SHARE = 0.7
LEASE = 10
# A turn is a third of the lease, less an eighth of it at most.
TURN = LEASE / 3 * 15 / 16
# CPU seconds of Redis for a renewal, an entry of a node that is read, a stream that is looked up, and one that is carried; see
# tests/simulation/redis.rs.
REDIS_COSTS = (28e-6, 3.6e-6, 8e-6, 8e-6)


def viewers_of_core():
    return SHARE / (BITRATE / 8 / 1e9 * CPU_OF_GIGABYTE)


def viewers_of_interface(gigabits):
    return SHARE * gigabits * 1e9 / (BITRATE * WIRE / PAYLOAD)


def copies(viewers, streams, edges):
    """Streams at edges: how many pairs of them have a viewer, with popularity by Zipf, and viewers spread over the edges by chance."""
    whole = sum(1 / rank for rank in range(1, streams + 1))
    return sum(edges * (1 - (1 - 1 / edges) ** (viewers / whole / rank)) for rank in range(1, streams + 1))


def row(viewers, streams, gigabits, regions):
    """One cluster: edges, cores, copies, mid-tier, bandwidths and commands of Redis."""
    edges = -(-viewers // int(viewers_of_interface(gigabits)))
    pulled = copies(viewers, streams, edges)
    per_edge = pulled / edges
    gigabytes = BITRATE / 8 / 1e9
    cores = viewers / edges * gigabytes * CPU_OF_GIGABYTE / SHARE + per_edge * gigabytes * CPU_OF_INGEST / SHARE
    to_edges = pulled * BITRATE * WIRE / PAYLOAD / 1e9
    mids = max(1, -(-to_edges // (SHARE * gigabits))) if edges > 4 else 0
    from_origins = streams * min(regions, mids) * BITRATE * WIRE / PAYLOAD / 1e9 if mids else to_edges
    followed = pulled + (streams * regions if mids else 0)
    nodes = edges + mids + max(1, -(-from_origins // (SHARE * gigabits)))
    # In each turn every stream is renewed, every node reads all nodes, a third of what is followed is looked up, and tier 1 says what it
    # carries.
    counts = (streams, nodes * nodes, followed / 3, streams * regions if mids else 0)
    redis = sum(counts) / TURN
    share = sum(count * cost for count, cost in zip(counts, REDIS_COSTS)) / TURN
    return {
        "viewers": viewers,
        "streams": streams,
        "edges": edges,
        "cores": cores,
        "per_edge": per_edge,
        "to_edges": to_edges,
        "mids": mids,
        "from_origins": from_origins,
        "redis": redis,
        "share": share,
    }


# Viewers, streams, and Gbit/s of an interface.
CLUSTERS = [
    (1_000, 10, 10),
    (10_000, 100, 10),
    (100_000, 1_000, 25),
    (300_000, 10_000, 25),
    (1_000_000, 1, 25),
    (1_000_000, 1_000, 25),
    (1_000_000, 10_000, 25),
    (1_000_000, 10_000, 100),
]
REGIONS = 2


def table():
    head = ["viewers", "streams", "interface", "edges", "cores of an edge", "copies of an edge", "to all edges", "tier 1"]
    head += ["from all origins", "Redis commands/s", "of Redis's core"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for viewers, streams, gigabits in CLUSTERS:
        size = row(viewers, streams, gigabits, REGIONS)
        cells = [f"{viewers:,}", f"{streams:,}", f"{gigabits} Gbit/s", f"{size['edges']:,}", f"{size['cores']:.1f}"]
        cells += [f"{size['per_edge']:,.0f}", f"{size['to_edges']:,.1f} Gbit/s", f"{size['mids']:,.0f}" if size["mids"] else ""]
        cells += [f"{size['from_origins']:,.1f} Gbit/s", f"{size['redis']:,.0f}", f"{size['share']:.1%}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
